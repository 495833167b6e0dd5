"""Calibration: the largest magnitude that an input's grid should hold, from what is seen of it.

    max          all of it: nothing that was seen is clipped
    percentile   so many percent of all numbers; what is larger is clipped
    entropy      the range whose clipped, quantised histogram is nearest to the one that was seen,
                 by Kullback-Leibler divergence (TensorRT's calibration: Migacz, GTC 2017)

The last two count |x| in a histogram whose range doubles when a larger number comes: what they say
does not depend on how the numbers were cut into batches, up to one bin.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from gossamer.errors import ConfigError, StageError
from gossamer.quantization import grid

Kind = Literal["max", "percentile", "entropy"]
KINDS: tuple[str, ...] = ("max", "percentile", "entropy")
BINS = 2**14
COARSE = 2**11  # bins that entropy compares: finer ones would hold too few numbers
CANDIDATES = 128  # ranges that entropy tries


class Observer(Protocol):
    """Sees tensors (any shape), on any device and in any number, and says amax () float32."""

    def add(self, x: Tensor) -> None: ...

    def amax(self) -> Tensor: ...


def observer(kind: Kind, bits: int, percentile: float = 99.99) -> Observer:
    """An observer for inputs of a `bits`-bit grid; `percentile` is of all numbers, in (0, 100].

    Raises ConfigError for another kind, width or percentile. Asking it for `amax` before it saw
    anything, or showing it a number that is not finite, is a StageError."""
    grid.largest(bits)  # raises where there is no such grid
    if not 0 < percentile <= 100:
        raise ConfigError(f"percentile={percentile}: above 0, at most 100, e.g. 99.99")
    match kind:
        case "max":
            return Maximum()
        case "percentile":
            return Percentile(percentile / 100)
        case "entropy":
            return Entropy(bits)
    raise ConfigError(f"observer={kind!r}: choose {', '.join(KINDS)}")


class Maximum:
    """The largest magnitude. Does not wait for the device until it is asked."""

    def __init__(self) -> None:
        self.seen: Tensor | None = None

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        low, high = torch.aminmax(x.detach())
        most = torch.maximum(-low, high).float()
        self.seen = most if self.seen is None else torch.maximum(self.seen, most)

    def amax(self) -> Tensor:
        if self.seen is None:
            raise _nothing()
        _finite(float(self.seen))
        return self.seen


class Histogram:
    """Counts of |x| in bins of equal width from 0 to `top`, which is doubled for larger numbers."""

    def __init__(self) -> None:
        self.counts: Tensor | None = None  # (BINS,) int64
        self.top = self.most = 0.0  # upper end of the bins; largest number seen
        self.zeros = 0  # numbers that are exactly zero; they are in the first bin, too

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        sizes = x.detach().float().abs().flatten()
        if self.counts is None:
            self.counts = torch.zeros(BINS, dtype=torch.int64, device=x.device)
        most = float(sizes.max())
        _finite(most)
        self.most = max(self.most, most)
        if self.top == 0:  # nothing but zeros until now
            self.top = most
        while self.top < most:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = torch.cat([pairs, torch.zeros_like(pairs)])
            self.top *= 2
        nonzero = int(sizes.count_nonzero())
        self.zeros += len(sizes) - nonzero
        if nonzero:
            sizes.div_(self.top).mul_(BINS)
        bins = sizes.to(torch.int64).clamp_(max=BINS - 1)
        self.counts += torch.bincount(bins, minlength=BINS)

    def seen(self) -> Tensor:
        if self.counts is None:
            raise _nothing()
        return self.counts


class Percentile(Histogram):
    """The magnitude that a share of all numbers does not exceed, to within a bin."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def amax(self) -> Tensor:
        counts = self.seen()
        below = counts.cumsum(0).double()
        rank = self.share * below[-1]
        place = int(torch.searchsorted(below, rank).clamp(max=BINS - 1))
        inside = 1 - (below[place] - rank) / counts[place].clamp(min=1)  # of that bin, from below
        value = (place + inside.clamp(0, 1)) * (self.top / BINS)
        return value.clamp(max=self.most).float()


class Entropy(Histogram):
    """The range whose quantised histogram is nearest to what was seen.

    For each range tried, P is the histogram of what is inside, with what is outside in its last
    bin; Q is what a grid of that range leaves of the inside: the numbers that round to one level,
    spread evenly over the level's bins that P has. The least KL(P, Q) wins, the larger range of
    equals. Numbers that are exactly zero say nothing of a range and are left out."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.levels = grid.largest(bits) + 1

    def amax(self) -> Tensor:
        counts = self.seen().cpu().clone()
        counts[0] -= self.zeros
        seen = counts.reshape(COARSE, -1).sum(1).double()
        device = self.seen().device
        if not seen.any():
            return torch.tensor(self.most, device=device)
        last = int(seen.nonzero().max()) + 1
        first = min(2 * self.levels, last)  # with fewer bins, a level is no coarser than a bin
        ends = torch.linspace(first, last, CANDIDATES).round().int().unique().tolist()
        costs = [self._divergence(seen, end) for end in ends]
        least = min(costs)
        best = max(end for end, cost in zip(ends, costs, strict=True) if cost == least)
        amax = min(best * self.top / COARSE, self.most)
        return torch.tensor(amax, dtype=torch.float32, device=device)

    def _divergence(self, seen: Tensor, end: int) -> float:
        """KL(P, Q) of the first `end` bins, in nats."""
        inside = seen[:end]
        p = inside.clone()
        p[-1] += seen[end:].sum()
        centres = torch.arange(end, dtype=torch.float64) + 0.5
        level = (centres * ((self.levels - 1) / end)).round().long()
        present = (p > 0).double()
        mass, bins = torch.zeros(2, self.levels, dtype=torch.float64).unbind()
        mass.index_add_(0, level, inside)
        bins.index_add_(0, level, present)
        q = (mass / bins.clamp(min=1))[level] * present
        p, q = p / p.sum(), q / q.sum().clamp(min=1e-12)
        here = p > 0
        return float((p[here] * (p[here] / q[here].clamp(min=1e-12)).log()).sum())


def _finite(most: float) -> None:
    if not most < float("inf"):  # neither is NaN
        raise StageError(
            "calibration saw an input that is not finite: are the model's weights finite?"
        )


def _nothing() -> StageError:
    return StageError("calibration saw no input: is the layer used in the forward pass?")
