"""What a model is made of, by role: blocks, attention, body linear layers, units, head, embeddings.

Everything is named by its module path, never held as a module: methods wrap modules in place, and a
path stays true where a reference would go stale.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

from torch import nn

Role = Literal[
    "query",
    "key",
    "value",
    "qkv",  # all three in one matrix, one above the other
    "attention_output",
    "gate",
    "up",
    "down",
    "patch_embedding",
    "reduction",
    "head",
]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True)
class Units:
    """The heads or the feed-forward neurons of one block: what structured pruning removes together.

    Unit u owns the features u*size … (u+1)*size - 1 of every layer in `rows` (as output features)
    and of every layer in `columns` (as input features).
    """

    kind: Literal["heads", "neurons"]
    block: str  # path of the block
    count: int  # units left
    size: int  # features per unit
    rows: tuple[str, ...]  # linear layers whose OUTPUT features belong to the units
    columns: tuple[str, ...]  # linear layers whose INPUT features belong to the units
    counters: tuple[tuple[str, str, int], ...] = ()  # (module path, attribute, amount per unit)


@dataclass(frozen=True)
class Parts:
    """A model's parts by role; every string is a module path.

    `linear` holds the compressible layers of the body, those in its blocks, in execution order.
    `head` (what the task added), `embeddings` and a pooler between body and head are not in it: a
    pooler can be of another scale altogether (a sentence encoder does not use its own), and a
    threshold shared with the body would leave it without a weight and the head without an input.

    `outer` holds what else a method may compress if it names it, by role: the convolution that
    embeds patches (of a kernel as large as its stride: a matrix (out, channels * patch * patch)),
    what merges patches between the stages of a hierarchical model, the head.
    """

    blocks: tuple[str, ...]
    attention: tuple[str, ...]  # attention cores, one per block
    linear: dict[str, Role]
    units: tuple[Units, ...]
    head: tuple[str, ...]
    embeddings: tuple[str, ...]
    outer: dict[str, Role] = field(default_factory=dict)
    features: tuple[str, ...] = ()  # whose outputs are compared with a teacher's; (): the blocks'
    tokens: str | None = None  # whose output (B, n, d) the classifier reads; None: no such thing
    prefix: int = 0  # of these tokens, the first so many are none of the grid: the class token
    grid: tuple[int, int] | None = None  # rows and columns of the others, the patches

    def with_units(self, old: Units, new: Units) -> Parts:
        """These parts with `old` replaced by `new`."""
        return replace(self, units=tuple(new if one == old else one for one in self.units))


def parts_of(model: nn.Module) -> Parts:
    """The parts that the model's builder named."""
    return cast(Parts, model.parts)


def body_linears(model: nn.Module, roles: Collection[str] | None = None) -> dict[str, nn.Module]:
    """The modules at the body's linear paths, in execution order: an `nn.Linear`, or what a method
    has put in its place.

    Args:
        roles: only these roles (of `ROLES`); None: all. An unknown role is a ValueError.
    """
    return _chosen(model, parts_of(model).linear, roles)


def operations(model: nn.Module, roles: Collection[str] | None = None) -> dict[str, nn.Module]:
    """The body's linear layers and the outer ones, in execution order; as `body_linears`, but what
    is at a path may also be an `nn.Conv2d`, whose weight (out, …) is a matrix once it is flattened
    behind its first dimension."""
    parts = parts_of(model)
    order = {path: place for place, (path, _) in enumerate(model.named_modules())}
    everything = parts.linear | parts.outer
    return _chosen(
        model, {path: everything[path] for path in sorted(everything, key=order.get)}, roles
    )


def feature_paths(model: nn.Module, capture: int | str | tuple[str, ...]) -> tuple[str, ...]:
    """The modules that a stage's `capture` means. ValueError for a word that means none."""
    if isinstance(capture, tuple):
        return capture
    parts = parts_of(model)
    if capture == "tokens" and parts.tokens is not None:
        return (parts.tokens,)
    if isinstance(capture, str):
        paths = (path for path, _ in model.named_modules())
        if named := tuple(path for path in paths if path.rpartition(".")[2] == capture):
            return named
        raise ValueError(f"capture={capture!r}: the model has no such place or module")
    return (parts.features or parts.blocks)[-capture:] if capture else ()


def _chosen(
    model: nn.Module, layers: Mapping[str, Role], roles: Collection[str] | None
) -> dict[str, nn.Module]:
    unknown = set(roles or ()) - set(ROLES)
    if unknown:
        raise ValueError(f"no role {sorted(unknown)}: a layer is one of {', '.join(ROLES)}")
    return {
        path: model.get_submodule(path)
        for path, role in layers.items()
        if roles is None or role in roles
    }
