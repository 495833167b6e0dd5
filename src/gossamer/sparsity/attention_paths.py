"""Ways to compute attention of which a map keeps some keys of each query; all give the same.

masked   the dense products, and what the map drops is no part of the softmax: the reference.
         Nothing is saved
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional

from gossamer.sparsity.attention import with_prefix

Kernel = Literal["masked"]
# (q, k, v (B, H, n, d_h), rows (B, H, n - prefix, n) bool, prefix, dropout) -> (B, H, n, d_h)
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, int, float], Tensor]


def masked(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, prefix: int, dropout: float) -> Tensor:
    mask = with_prefix(rows, prefix)
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    return out.masked_fill(~mask.any(-1, keepdim=True), 0.0)


ATTEND: dict[str, Attend] = {"masked": masked}
