"""The pattern axis: which weights of a matrix are kept or dropped together.

A weight matrix has the shape (out, in), torch's `nn.Linear.weight`. A pattern divides it into
*units*, the smallest things that can be dropped: one weight (unstructured, N:M), an R×C block, a
row (an output feature), a column (an input feature). N:M keeps N of every M consecutive weights
along the input features, the axis that sparse tensor cores and 2:4 kernels sum over. Pairwise N:M
keeps and drops neighbours two by two: sparse INT4 products on Ampere take pairwise 4:8.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import ConfigError, StageError

COMPARED = 16  # groups up to this size are ranked without sorting
_EXAMPLES = ("unstructured", "2:4", "pairwise:4:8", "block:4x4", "row", "column")


def keep_top(score: Tensor, keep: int) -> Tensor:
    """The `keep` largest entries of `score` (any shape) as a bool tensor of its shape.

    Exactly `keep` are True, whatever the ties: of equal scores the lower flat index is kept. Costs
    one selection, not a sort. Raises StageError if a score is NaN, ValueError if `keep` is out of
    range."""
    flat = score.detach().reshape(-1)
    if not 0 <= keep <= flat.numel():
        raise ValueError(f"cannot keep {keep} of {flat.numel()} units")
    if flat.is_floating_point() and flat.isnan().any():
        raise StageError(
            "a pruning score is NaN: were the weights (or gradients) finite before pruning?"
        )
    if keep == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    if keep == flat.numel():
        return torch.ones_like(score, dtype=torch.bool)
    threshold = torch.kthvalue(flat, flat.numel() - keep + 1).values
    above, tied = flat > threshold, flat == threshold
    return (above | (tied & (tied.cumsum(0) <= keep - above.sum()))).reshape(score.shape)


def keep_top_of_rows(score: Tensor, keep: int) -> Tensor:
    """The `keep` largest entries of every row of `score` (rows, width) as a bool tensor of its
    shape: exactly that many; of equal scores the lower index is kept. Raises as `keep_top` does."""
    if not 0 <= keep <= score.shape[1]:
        raise ValueError(f"cannot keep {keep} of {score.shape[1]} units")
    if score.isnan().any():
        raise StageError("a pruning score is NaN: were the weights (or inputs) finite?")
    best = score.detach().argsort(dim=1, descending=True, stable=True)[:, :keep]
    return torch.zeros_like(score, dtype=torch.bool).scatter_(1, best, True)


@dataclass(frozen=True)
class Pattern:
    """One pattern. Build it with `parse`; `str(pattern)` is the text it was parsed from."""

    name: str
    unit: tuple[int, int] = (1, 1)  # rows × columns of a unit; 0: the whole axis
    n: int = 0  # N:M keeps n …
    m: int = 0  # … of every m along the input features; 0: not N:M
    run: int = 1  # neighbours of a group that are kept or dropped together

    def __str__(self) -> str:
        return self.name

    @property
    def density(self) -> float | None:
        """N / M where the pattern itself fixes the density, else None."""
        return self.n / self.m if self.m else None

    def problem(self, shape: tuple[int, ...]) -> str | None:
        """Why a weight of this shape cannot have the pattern (None: it can), and what it would
        take."""
        if self.name == "unstructured":
            return None
        if len(shape) != 2:
            return f"a weight of {len(shape)} dimensions, pattern {self} needs 2: (out, in)"
        out, width = shape
        if self.m and width % self.m:
            return f"{width} input features, not a multiple of {self.m}"
        rows, columns = self._unit(shape)
        if out % rows or width % columns:
            return f"{out}x{width} does not divide into {rows}x{columns} blocks"
        return None

    def holds(self, weight: Tensor) -> bool:
        """Are the zeros of a weight (out, in) where N:M wants them? ValueError if it is not N:M."""
        if not self.m:
            raise ValueError(f"pattern {self} does not say where zeros are")
        alive = (weight.reshape(-1, self.m // self.run, self.run) != 0).any(-1)
        return int(alive.sum(-1).max()) * self.run <= self.n

    def units(self, shape: tuple[int, ...]) -> int:
        """How many units a weight of this shape has (N:M: its weights)."""
        return math.prod(shape) // self.unit_size(shape)

    def unit_size(self, shape: tuple[int, ...]) -> int:
        """Weights in one unit of a weight of this shape."""
        return math.prod(self._unit(shape))

    def unit_scores(self, score: Tensor) -> Tensor:
        """The score of each unit: the sum over its weights. (out, in) -> (out / rows, in /
        columns)."""
        if self.unit == (1, 1):
            return score
        (rows, columns), (out, width) = self._unit(tuple(score.shape)), score.shape
        return score.reshape(out // rows, rows, width // columns, columns).sum(dim=(1, 3))

    def mask(self, score: Tensor, keep: int | None) -> Tensor:
        """The bool mask (out, in), True = kept, of the `keep` units with the largest scores.

        N:M leaves no choice of `keep`: pass None (or the only possible number). Ties go to the
        lower index. Raises ValueError if the shape or `keep` do not fit, StageError if a score is
        NaN."""
        shape = tuple(score.shape)
        if problem := self.problem(shape):
            raise ValueError(f"pattern {self}: {problem}")
        if self.m:
            if keep not in (None, score.numel() // self.m * self.n):
                raise ValueError(
                    f"pattern {self} fixes how many weights are kept; {keep} was asked for"
                )
            return self._keep_n_of_m(score.detach())
        if keep is None:
            raise ValueError(f"pattern {self} needs the number of units to keep")
        kept = keep_top(self.unit_scores(score.detach()), keep)
        if self.unit == (1, 1):
            return kept
        rows, columns = self._unit(shape)
        return kept.repeat_interleave(rows, dim=0).repeat_interleave(columns, dim=1)

    def _unit(self, shape: tuple[int, ...]) -> tuple[int, int]:
        if self.unit == (1, 1):
            return self.unit
        return self.unit[0] or shape[0], self.unit[1] or shape[1]

    def _keep_n_of_m(self, score: Tensor) -> Tensor:
        if self.run > 1:
            together = score.reshape(len(score), -1, self.run).sum(-1)
            pairs = Pattern(self.name, n=self.n // self.run, m=self.m // self.run)
            return pairs._keep_n_of_m(together).repeat_interleave(self.run, dim=1)
        # a sum is NaN if an entry is; of both infinities, too
        if score.sum().isnan() and score.isnan().any():
            raise StageError("a pruning score is NaN: were the weights (or gradients) finite?")
        if self.m <= COMPARED:
            return _first_by_comparison(score, self.n, self.m)
        out, width = score.shape
        groups = score.reshape(out, width // self.m, self.m)
        best = groups.argsort(dim=-1, descending=True, stable=True)[..., : self.n]
        mask = torch.zeros_like(groups, dtype=torch.bool)
        return mask.scatter_(-1, best, True).reshape(out, width)


def _first_by_comparison(score: Tensor, n: int, m: int) -> Tensor:
    """The mask of the n largest of every m neighbours, by comparing every pair of a group: an entry
    is kept if fewer than n others are larger, or as large and before it. Groups of four take about
    a tenth of a stable sort's time (512 x 512 scores on one core: 0.7 ms, 8.5 ms)."""
    places = [place.contiguous() for place in score.reshape(-1, m).unbind(1)]
    # how many are ahead of an entry: all that follow it, until they lose
    ahead = [torch.full_like(p, m - 1 - i, dtype=torch.uint8) for i, p in enumerate(places)]
    for early, late in itertools.combinations(range(m), 2):
        wins = (places[early] >= places[late]).view(torch.uint8)
        ahead[late] += wins
        ahead[early] -= wins
    return torch.stack([count < n for count in ahead], dim=1).reshape(score.shape)


def n_of_m(text: str) -> Pattern | None:
    """The pattern that a ledger's word names if it is N:M (pairwise too), else None: a ledger has
    words for what is no pattern of weights (dense, heads, neurons)."""
    return parse(text) if ":" in text and not text.startswith("block:") else None


def parse(text: str) -> Pattern:
    """The pattern that `text` names: unstructured, N:M (such as 2:4), pairwise:N:M (even numbers),
    block:RxC, row, column.

    Raises ConfigError if there is no such pattern."""
    if not isinstance(text, str):  # YAML 1.1 reads an unquoted 2:4 as the base-60 number 124
        raise ConfigError(
            f"pattern={text!r}: not a text; in YAML an N:M pattern needs quotes, '2:4'"
        )
    if text == "unstructured":
        return Pattern(text)
    if text in ("row", "column"):
        return Pattern(text, unit=(1, 0) if text == "row" else (0, 1))
    if found := re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text):
        n, m = int(found[1]), int(found[2])
        if n < m:
            return Pattern(text, n=n, m=m)
        raise ConfigError(f"pattern={text!r}: N:M keeps fewer than M of every M weights, e.g. 2:4")
    if found := re.fullmatch(r"pairwise:([1-9]\d*):([1-9]\d*)", text):
        n, m = int(found[1]), int(found[2])
        if n < m and not n % 2 and not m % 2:
            return Pattern(text, n=n, m=m, run=2)
        raise ConfigError(f"pattern={text!r}: keeps pairs of every M weights, e.g. pairwise:4:8")
    if found := re.fullmatch(r"block:([1-9]\d*)x([1-9]\d*)", text):
        return Pattern(text, unit=(int(found[1]), int(found[2])))
    near = difflib.get_close_matches(text, _EXAMPLES, 1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"pattern={text!r}: choose unstructured, N:M, pairwise:N:M, block:RxC, row or column{hint}"
    )
