"""How far weights that a mask would drop have shrunk: the figures that tell whether dropping them
will hurt. A mean hides the tail, so the median and the largest are beside it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gossamer.sparsity.masks import local, total

CODES = 1 << 15  # the upper 16 bits of a float32 that is not negative, in their numeric order


@torch.no_grad()
def shrinkage(weights: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Figures over all weights together; {} if there are none.

    sparse_weight_ratio: ‖W ∘ M‖₁ / ‖W‖₁, 1 when masked weights weigh nothing. masked_mean,
    masked_median, masked_max: of |W| where masked; the median to 0.4 %, from a histogram, so that
    it needs no sort and is the same however the weights are spread over processes.

    Args:
        weights: (weight, mask) pairs, the mask bool and True where the weight is masked; both
            whole, or both sharded alike, in which case all processes call this together.
    """
    seen = [(*_counted(local(weight), local(masked)), weight) for weight, masked in weights]
    if not seen:
        return {}
    parts, largest, (like, *_) = zip(*seen, strict=True)
    sums = total(torch.stack(parts).sum(0), like)
    everything, weighs, count = sums[:3].tolist()
    middle = int((sums[3:].cumsum(0) < count / 2).sum())  # the code of the median
    code = torch.tensor([(middle << 16) + (1 << 15 if middle else 0)], dtype=torch.int32)
    return {
        "sparse_weight_ratio": 1 - weighs / everything if everything else 1.0,
        "masked_mean": weighs / count if count else 0.0,
        "masked_median": float(code.view(torch.float32)) if count else 0.0,
        "masked_max": float(total(torch.stack(largest).max(), like, of="max")),
    }


def _counted(weight: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
    """Σ |W|, Σ |W| and number where masked, and the histogram of |W| there, in one tensor; and the
    largest |W| there."""
    size = weight.float().abs()
    inside = size[masked]
    codes = inside.view(torch.int32) >> 16
    everything, weighs = size.sum(dtype=torch.float64), inside.sum(dtype=torch.float64)
    sums = torch.stack([everything, weighs, weighs.new_tensor(float(len(inside)))])
    histogram = torch.bincount(codes, minlength=CODES)
    return torch.cat([sums, histogram]), inside.max() if len(inside) else inside.new_zeros(())
