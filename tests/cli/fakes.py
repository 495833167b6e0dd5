"""Targets of the small config tree beside this file; read from source, never called."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Optional

Weights = Literal["init", "pretrained"]


class Encoder:
    accepts = frozenset({"text"})

    def __init__(
        self,
        name: str = "encoder",
        weights: Weights = "pretrained",
        layers: int = 2,
        dropout: float | None = None,
        sizes: tuple[int, ...] = (128, 256),
        config: dict[str, int] | None = None,
    ) -> None: ...


class Tiny(Encoder):
    def __init__(self, layers: int = 2, width: int = 128) -> None: ...


@dataclass
class Sentences:
    accepts: ClassVar[frozenset[str]] = frozenset()
    kind = "text"

    path: Path | None = None
    columns: tuple[str, str] = ("text", "label")
    max_length: int = 64
    lower: bool = False


@dataclass
class Pairs(Sentences):
    task_name: str = "mrpc"
    extra: list[str] = field(default_factory=list)


class Classification:
    accepts = frozenset({"text"})

    def __init__(self, metric: Optional[str] = None) -> None: ...  # noqa: UP045


class Regression(Classification):
    pass


class Prune:
    accepts = frozenset({"text"})

    def __init__(
        self,
        density: float = 0.5,
        pattern: str = "unstructured",
        scope: Literal["global", "uniform"] = "global",
    ) -> None: ...


class Adapt:
    def __init__(self, rank: int = 8, targets: tuple[str, ...] | None = None) -> None: ...


def bundle(formats: tuple[str, ...] = ("gossamer",)) -> None: ...


@dataclass(frozen=True)
class Training:
    steps: int = 150
    lr: float = 5e-5
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    clip: float | None = 1.0
    threads: int | None = None
    progress: bool = True
