"""What is left to do to a batch of pictures where the model is: normalise, erase, mix.

Everything that was drawn came with the batch, as tensors, so nothing here waits for the device or
draws from its generators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

# splitmix64 (Steele, Lea, Flood 2014), as signed 64-bit integers
GOLDEN, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def normalised(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(B, C, H, W) uint8 -> float32: (x / 255 - mean) / std, per channel."""
    scale, shift = _constants(mean, std, x.device)
    return x.float() * scale + shift


@cache
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    middle, spread = (torch.tensor(one, dtype=torch.float64)[:, None, None] for one in (mean, std))
    scale, shift = 1 / (255 * spread), -middle / spread  # (C, 1, 1)
    return scale.float().to(device), shift.float().to(device)


def erased(x: Tensor, boxes: Tensor, draws: Tensor) -> Tensor:
    """`x` (B, C, H, W) with standard normal noise inside each row's box.

    Args:
        boxes: (B, 4) top, bottom, left, right.
        draws: (B,) int64, what the rows' noise is a function of.
    """
    count = x[0].numel()
    return torch.where(inside(boxes, x), noise(draws, count).view_as(x).to(x.dtype), x)


def inside(boxes: Tensor, x: Tensor) -> Tensor:
    """(B, 1, H, W) bool: which pixels of `x` (B, C, H, W) are in their row's box (B, 4)."""
    top, bottom, left, right = boxes[:, :, None].unbind(1)  # (B, 1) each
    y = torch.arange(x.shape[2], device=x.device)
    column = torch.arange(x.shape[3], device=x.device)
    rows, columns = (y >= top) & (y < bottom), (column >= left) & (column < right)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def noise(draws: Tensor, count: int) -> Tensor:
    """(B, count) float32 standard normal numbers, a function of `draws` (B,) int64 alone: hashed
    counters, for a generator on a device would have to be seeded from here, row by row."""
    z = hashed(draws, count)
    # two uniform numbers of 24 bits, the first of them never 0, and Box and Muller's transform
    first = (_shifted(z, 40) + 1).float() / 2**24
    second = (z & (2**24 - 1)).float() / 2**24
    return torch.sqrt(-2 * torch.log(first)) * torch.cos(2 * math.pi * second)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Unsigned shift to the right."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def hashed(draws: Tensor, count: int) -> Tensor:
    """(B, count) int64 whose 64 bits are as good as random, a function of `draws` (B,) int64
    alone; of one column, two numbers are equal only where their draws are."""
    counters = torch.arange(1, count + 1, device=draws.device) * GOLDEN
    z = draws[:, None] + counters
    z = (z ^ _shifted(z, 30)) * FIRST
    z = (z ^ _shifted(z, 27)) * SECOND
    return z ^ _shifted(z, 31)


def mixed(x: Tensor, kept: Tensor, boxes: Tensor) -> Tensor:
    """`x` (B, C, H, W), each row with something of the row that is as far from the batch's end as
    it is from the start: its box, or if that is empty, 1 - kept of every pixel.

    Args:
        kept: (B,) the share that a row keeps of itself.
        boxes: (B, 4) top, bottom, left, right.
    """
    other = x.flip(0)
    cut = (boxes[:, 1] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 2])
    blend = torch.where(cut, torch.ones_like(kept), kept)[:, None, None, None]
    return torch.where(inside(boxes, x), other, torch.lerp(other, x, blend))


def targets(labels: Tensor, classes: int, kept: Tensor, smoothing: float) -> Tensor:
    """(B, classes) float32: kept · own + (1 - kept) · the other row's, each smoothed."""
    own = functional.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    share = kept[:, None]
    return share * own + (1 - share) * own.flip(0)


def finished(
    batch: Mapping[str, Tensor],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: int,
    smoothing: float = 0.0,
    mixes: bool = False,
) -> dict[str, Tensor]:
    """A batch of `data.images` as the model is to see it: {"x", "labels"}, and "targets" of a
    training batch whose labels are mixed or smoothed."""
    x = normalised(batch["x"], mean, std)
    if "erased" in batch:
        x = erased(x, batch["erased"], batch["draws"])
    if mixes and "kept" in batch:
        x = mixed(x, batch["kept"], batch["cut"])
    done = {"x": x}
    if "labels" in batch:
        done["labels"] = batch["labels"]
        if "kept" in batch:
            done["targets"] = targets(batch["labels"], classes, batch["kept"], smoothing)
    return done
