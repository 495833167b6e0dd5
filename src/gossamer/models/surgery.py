"""Changing a model's modules in place: replacing one, and cutting heads or neurons out for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from gossamer.errors import StageError
from gossamer.models.parts import Units, parts_of


def replace_module(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put `new` where the module at `path` is; it takes over that module's training mode."""
    parent_path, _, name = path.rpartition(".")
    parent = model.get_submodule(parent_path)
    new.train(getattr(parent, name).training)
    setattr(parent, name, new)


class InPlace(nn.Module):
    """A module that stands where another one of the model stood, and has that one's parts under the
    names that they had, so that their paths stay true. `arguments` and `over` say how it is made
    again of what a builder makes (`export.manifest`)."""

    arguments: dict[str, Any]

    @classmethod
    def over(cls, old: nn.Module, **arguments: Any) -> Self:
        """A new one in `old`'s place, with its parameters, buffers, submodules, plain attributes
        and training mode. `old` is not to be used any more."""
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        new.__dict__.update(old.__dict__)
        new.arguments = arguments
        new.set_up(**arguments)
        return new

    def set_up(self, **arguments: Any) -> None:
        """What it has besides."""


def cut_units(model: nn.Module, units: Units, keep: Tensor) -> None:
    """Remove every unit of `units` that is not in `keep`, with its biases; `keep` gives the order.

    The result computes what the uncut model does with the removed features set to zero where they
    enter `units.columns`. `model.parts` is brought up to date; parameters are new objects, so an
    optimizer that holds the old ones must be rebuilt.

    Args:
        units: from `model.parts.units` (found by kind and block, so a stale copy is harmless).
        keep: (kept,) distinct indices of the units that stay, at least one.

    Raises:
        ValueError: `keep` is empty, repeats itself or names no such unit.
        StageError: a layer is neither an `nn.Linear` nor has `cut_rows` / `cut_columns`.
    """
    parts = parts_of(model)
    now = next(one for one in parts.units if (one.kind, one.block) == (units.kind, units.block))
    keep = torch.as_tensor(keep, dtype=torch.long, device="cpu")
    if keep.ndim != 1 or not len(keep) or len(keep.unique()) != len(keep):
        raise ValueError(f"{now.block} {now.kind}: keep at least one unit, each once, not {keep}")
    if keep.min() < 0 or keep.max() >= now.count:
        raise ValueError(f"{now.block} has {now.count} {now.kind}, asked to keep {keep.tolist()}")
    features = (keep[:, None] * now.size + torch.arange(now.size)).flatten()  # (kept * size,)
    cutters = [(_cutter(model, path, "cut_rows"), path) for path in now.rows]
    cutters += [(_cutter(model, path, "cut_columns"), path) for path in now.columns]
    for cut, _ in cutters:  # every layer was checked before the first one changes
        cut(features)
    for path, attribute, amount in now.counters:
        setattr(model.get_submodule(path), attribute, amount * len(keep))
    model.parts = parts.with_units(now, replace(now, count=len(keep)))  # type: ignore[assignment]


def _cutter(model: nn.Module, path: str, verb: str) -> Any:
    module = model.get_submodule(path)
    if hasattr(module, verb):
        return getattr(module, verb)
    if type(module) is not nn.Linear:
        raise StageError(
            f"{path} is a {type(module).__name__}, which has no {verb}: heads and neurons can be "
            f"cut only from plain linear layers; finalise the method that put it there first"
        )
    function = linear_rows if verb == "cut_rows" else linear_columns
    return lambda features: function(module, features)


def linear_rows(layer: nn.Linear, keep: Tensor) -> None:
    """Keep the output features `keep` of a linear layer, in place: weight (out, in), bias (out)."""
    layer.weight = _select(layer.weight, keep, 0)
    if layer.bias is not None:
        layer.bias = _select(layer.bias, keep, 0)
    layer.out_features = len(keep)


def linear_columns(layer: nn.Linear, keep: Tensor) -> None:
    """Keep the input features `keep` of a linear layer, in place: weight (out, in)."""
    layer.weight = _select(layer.weight, keep, 1)
    layer.in_features = len(keep)


def _select(parameter: Tensor, keep: Tensor, dim: int) -> nn.Parameter:
    values = parameter.detach().index_select(dim, keep.to(parameter.device))
    return nn.Parameter(values, requires_grad=parameter.requires_grad)
