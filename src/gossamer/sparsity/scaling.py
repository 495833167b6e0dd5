"""A linear layer whose weight is scaled block by block while it trains (CAST, eq. 11 and 12)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.errors import StageError
from gossamer.sparsity.linear import LinearInPlace, plain_linear


class ScaledLinear(LinearInPlace):
    """y = x (A ∘ W)ᵀ + b, where A multiplies n equal blocks of consecutive inputs of every row:

        (A ∘ W)[r, c] = A[r, ⌊c / (in/n)⌋] W[r, c],     A (out, n), all ones at first.

    It takes over the weight and bias of the layer that it replaces, and is dense: pruning W first
    or (A ∘ W) first is the same, as long as no A is 0. `folded` is what is left for inference."""

    def __init__(self, linear: nn.Linear, blocks: int) -> None:
        super().__init__(linear)
        if blocks < 1 or linear.in_features % blocks:
            raise ValueError(f"{blocks} blocks do not divide {linear.in_features} input features")
        self.scale = nn.Parameter(self.weight.new_ones(linear.out_features, blocks))

    def scaled(self) -> Tensor:
        """A ∘ W, (out, in)."""
        blocks = self.weight.unflatten(1, (self.scale.shape[1], -1))
        return (blocks * self.scale.unsqueeze(-1)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scaled(), self.bias)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The plain layer of the same function. Raises StageError if it has zeros that W has not:
        a scale that is 0 (or so small that the product is)."""
        weight = self.scaled()
        lost = int(self.weight.count_nonzero()) - int(weight.count_nonzero())
        if lost:
            raise StageError(
                f"{lost} weights became 0 through their scales (the smallest is "
                f"{float(self.scale.abs().min()):.3g}): lower trainer.lr, or train without scales"
            )
        return plain_linear(nn.Parameter(weight), self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, " + (
            f"blocks={self.scale.shape[1]}, bias={self.bias is not None}"
        )
