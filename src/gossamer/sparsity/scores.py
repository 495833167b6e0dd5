"""The score axis: how much each weight matters. Higher is kept. Plain functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def magnitude(weight: Tensor) -> Tensor:
    """|W|, of the weight's shape (Han et al., 2015). Zeros score lowest, so they are pruned
    first."""
    return weight.detach().abs()


def gradient(weight: Tensor, grad: Tensor) -> Tensor:
    """|W ∘ ∂L/∂W|: the first-order change of the loss if the weight were dropped (Molchanov et
    al., 2017, eq. 8; SNIP, Lee et al., 2019, eq. 6, up to its normalisation). Both of the weight's
    shape."""
    return (weight.detach() * grad.detach()).abs()


def wanda(weight: Tensor, norm: Tensor) -> Tensor:
    """|W_ij| · ‖X_j‖₂, of the weight's shape (Sun et al., 2024, eq. 1). `norm` (in,) is the l2 norm
    of each input feature over all calibration tokens. To be compared within one output row; there,
    a common factor of `norm` changes nothing."""
    return weight.detach().abs() * norm


def random(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform on [0, 1), of the weight's shape and device; drawn where the generator lives, so the
    same generator gives the same scores on every device. The control arm of every other score."""
    drawn = torch.rand(weight.shape, generator=generator, device=generator.device)
    return drawn.to(weight.device)
