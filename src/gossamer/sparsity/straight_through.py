"""Linear layers that use a masked weight and train the dense one, as if the mask were not there.

Zhou et al.: Learning N:M fine-grained structured sparse neural networks from scratch, ICLR 2021,
equation 9. The straight-through gradient of the masked weight goes to all of W, and what is masked
is pulled to zero beside it (SR-STE; λ = 0: plain STE):

    y = x (M ∘ W)ᵀ + b        ∂L/∂W := ∂L/∂(M ∘ W) + λ (1 − M) ∘ W

The mask is made from |W| between two steps (`renew`), not in the forward pass: a forward pass that
gradient checkpointing repeats, or one of several that gradients are accumulated over, must see the
mask that the first one saw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.sparsity import masks, scores
from gossamer.sparsity.linear import LinearInPlace, plain_linear
from gossamer.sparsity.patterns import Pattern
from gossamer.sparsity.shrinkage import shrinkage


class StraightThroughLinear(LinearInPlace):
    """It takes over the weight and bias of the layer that it replaces. The mask `weight_mask` (True
    = kept, as in `masks.py`) and how many of its bits changed are buffers, so checkpoints have
    them. All True until `renew` is called: the layer is the one that it replaced.

    Args:
        pattern, keep: as in `Pattern.mask`.
        decay: λ.
    """

    weight_mask: Tensor
    flips: Tensor
    flips_so_far: Tensor

    def __init__(
        self, linear: nn.Linear, pattern: Pattern, keep: int | None = None, decay: float = 0.0
    ) -> None:
        super().__init__(linear)
        self.pattern, self.keep, self.decay = pattern, keep, decay
        masks.attach(self)
        for name in ("flips", "flips_so_far"):
            zero = torch.zeros((), dtype=torch.int64, device=self.weight.device)
            self.register_buffer(name, zero)

    def forward(self, x: Tensor) -> Tensor:
        weight = _StraightThrough.apply(self.weight, self.weight_mask, self.decay)
        return F.linear(x, weight, self.bias)

    @torch.no_grad()
    def renew(self, first: bool = False) -> None:
        """The mask of the weights as they are now. All processes call it, for a weight that is
        sharded is looked at whole. `first`: not a change of the mask before."""
        new = self.pattern.mask(scores.magnitude(masks.whole(self.weight)), self.keep)
        if not first:
            self.flips = torch.count_nonzero(new ^ self.weight_mask)
            self.flips_so_far += self.flips
        self.weight_mask.copy_(new)

    def baked(self) -> nn.Linear:
        """The plain layer of the same function, with zeros where the mask is False."""
        masks.apply(self)
        return plain_linear(self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.pattern}, decay={self.decay}"


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, keep: Tensor, decay: float) -> Tensor:
        ctx.decay = decay
        if decay:
            ctx.save_for_backward(weight, keep)
        return weight * keep

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        if not ctx.decay:
            return gradient[0], None, None
        weight, keep = ctx.saved_tensors
        return gradient[0] + ctx.decay * (weight * ~keep), None, None


def figures(layers: Iterable[nn.Module]) -> dict[str, float]:
    """Mask bits that the last `renew` changed, their share, how many changed in all, and what the
    masked dense weights weigh (`shrinkage.py`), over these layers together."""
    ours = [layer for layer in layers if isinstance(layer, StraightThroughLinear)]
    flips = sum(float(layer.flips) for layer in ours)
    return {
        "flips": flips,
        "flip_share": flips / sum(layer.weight.numel() for layer in ours),
        "flips_so_far": sum(float(layer.flips_so_far) for layer in ours),
        **shrinkage(
            (layer.weight, masks.laid_out(~layer.weight_mask, layer.weight)) for layer in ours
        ),
    }
