"""What a layer's inputs are, summed up while a calibration set passes through it.

Each of these is fed X in portions of tokens, (tokens, in), in any floating dtype, and computes in
float32 (float64 if it is fed that): one pass, with memory that does not grow with the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PANELS = 8  # a Hessian's columns are summed in so many parts, to compute one triangle only


class InputNorm:
    """‖X_j‖₂ of every input feature j, as Wanda needs it: kept as a running mean of x_j²."""

    def __init__(self) -> None:
        self.tokens = 0
        self.mean: Tensor | None = None  # (in,) of x²

    def add(self, x: Tensor) -> None:
        """x: (tokens, in)."""
        total = _wide(x).square().sum(dim=0)
        if self.mean is None:
            self.mean = torch.zeros_like(total)
        self.tokens += len(x)
        self.mean += (total - len(x) * self.mean) / self.tokens

    def value(self) -> Tensor:
        """(in,) The l2 norm of each feature over all tokens seen."""
        assert self.mean is not None
        return (self.mean * self.tokens).sqrt()


class Hessian:
    """2/n Σ x xᵀ over n tokens: the Hessian of a linear layer's mean squared output error with
    respect to a row of its weight (Frantar & Alistarh, 2023, section 3), as a running mean.

    The matrix is symmetric, so only its upper part is summed, in block rows: little more than half
    of the multiplications of a whole X ᵀX.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.sum: Tensor | None = None  # (in, in); below the diagonal's blocks only after value()

    def add(self, x: Tensor) -> None:
        """x: (tokens, in)."""
        if not len(x):
            return
        x = _wide(x)
        if self.sum is None:
            self.sum = x.new_zeros(x.shape[1], x.shape[1])
        before, self.tokens = self.tokens, self.tokens + len(x)
        for rows in self._panels():
            self.sum[rows, rows.start :].addmm_(
                x[:, rows].T, x[:, rows.start :], beta=before / self.tokens, alpha=2 / self.tokens
            )

    def value(self) -> Tensor:
        """(in, in) symmetric: what it is summed in, so not to be written to."""
        assert self.sum is not None
        for rows in self._panels():
            block = self.sum[rows, rows].triu()
            self.sum[rows, rows] = block + block.triu(1).T
            self.sum[rows.stop :, rows] = self.sum[rows, rows.stop :].T
        return self.sum

    def _panels(self) -> Iterator[slice]:
        assert self.sum is not None
        width = len(self.sum)
        step = -(-width // PANELS)
        for start in range(0, width, step):
            yield slice(start, min(start + step, width))


def _wide(x: Tensor) -> Tensor:
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))
