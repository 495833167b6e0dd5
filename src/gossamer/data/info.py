"""What a data set tells the rest of the house about itself."""

from dataclasses import dataclass
from typing import Literal

SPLITS = ("train", "validation", "test")
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class DataInfo:
    """The facts of a data set that models, tasks and records need."""

    kind: Literal["text"]
    classes: tuple[str, ...] | None  # None: regression
    rows: dict[str, int]  # split -> rows, as used
    max_length: int  # tokens per sample, special tokens included
    metrics: tuple[str, ...]  # the first is the primary one
    name: str
    notes: tuple[str, ...] = ()  # what was done to the published splits, one sentence each
