"""A linear layer in another one's place while it trains, and the plain layer that is left of it."""

from __future__ import annotations

from torch import Tensor, nn


class LinearInPlace(nn.Module):
    """Takes over the weight (out, in) and the bias of the layer that it replaces."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight: Tensor = linear.weight
        self.bias: Tensor | None = linear.bias

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """An `nn.Linear` around these tensors, not copied: weight (out, in), bias (out)."""
    out_features, in_features = weight.shape
    plain = nn.Linear(in_features, out_features, bias is not None, device="meta")
    plain.weight, plain.bias = weight, bias  # type: ignore[assignment]
    return plain
