"""Static masks: a bool buffer beside the weight, applied in place after each optimizer step.

In place costs 1–18% of a linear layer's step; a mask inside the forward pass costs 16–105% and
keeps a dense copy. The buffer `weight_mask` (True = kept) is persistent, so that checkpoints carry
it; `remove` takes it away at the end, and the weight keeps its exact zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn


def attach(module: nn.Module, mask: Tensor | None = None) -> None:
    """Give `module` the mask of its weight (all True if None), or put in the place of the one it
    has. Does not touch the weight: call `apply` for that. Works on the meta device.

    Raises ValueError if the mask is not a bool tensor of the weight's shape."""
    weight = _weight(module)
    if mask is None:
        mask = torch.ones_like(weight, dtype=torch.bool)
    if mask.dtype != torch.bool or mask.shape != weight.shape:
        raise ValueError(
            f"a mask is bool and {tuple(weight.shape)}, not {mask.dtype} {tuple(mask.shape)}"
        )
    module.register_buffer("weight_mask", mask.detach().to(weight.device), persistent=True)


@torch.no_grad()
def apply(module: nn.Module) -> None:
    """Zero the masked weights of `module`, in place. Raises AttributeError if it has no mask."""
    hold(_weight(module), module.get_buffer("weight_mask"))


@torch.no_grad()
def hold(weight: Tensor, keep: Tensor) -> None:
    """Zero `weight` where `keep` (bool, of its whole shape) is False, in place. A weight that is
    sharded over several processes loses the entries of the rows that are here."""
    # mul_ by a bool tensor: masked_fill_ is four times slower on the CPU
    weight.mul_(laid_out(keep, weight))


def laid_out(whole: Tensor, like: Tensor) -> Tensor:
    """`whole`, which every process has, as `like` (of the same shape) is laid out: the same tensor,
    or this process' part of it where `like` is sharded. Nothing is sent."""
    if not hasattr(like, "placements"):  # as a DTensor has, whose import takes a second
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    whole = whole.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process has, sharing its memory: all of it, unless it is
    sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. If it is sharded its parts are fetched: all processes call this, or none."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def total(value: Tensor, like: Tensor, of: Literal["sum", "max"] = "sum") -> Tensor:
    """The sum (or the largest) of what every process computed from its part of `like`, entry by
    entry; `value` itself where `like` is whole. All processes call it, or none."""
    if not hasattr(like, "placements"):
        return value
    import torch.distributed as dist

    reduced = value.clone()
    operation = dist.ReduceOp.SUM if of == "sum" else dist.ReduceOp.MAX
    dist.all_reduce(reduced, operation, group=cast(Any, like).device_mesh.get_group())
    return reduced


def remove(module: nn.Module) -> None:
    """Take the mask away; the weight stays as it is. Raises AttributeError if there is none."""
    del module.weight_mask


def masked(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of every module of `model` that has a mask, in module order."""
    for path, module in model.named_modules():
        if "weight_mask" in module._buffers:
            yield path, module


def of_zeros(module: nn.Module) -> Tensor:
    """The mask that the zeros of a module's weight describe: True where the weight is not zero."""
    return _weight(module).detach() != 0


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{type(module).__name__} has no weight tensor to mask")
    return weight
