"""Ways to compute attention of which a map keeps some keys of each query; all give the same.

masked   the dense products, and what the map drops is no part of the softmax: the reference, and
         what trains with dropout. Nothing is saved
gather   each query's keys are gathered, and only products that are kept are computed
flex     FlexAttention, compiled: tiles of 128 x 128 without a key are skipped. No gradients on a
         CPU
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional

from gossamer.errors import StageError
from gossamer.sparsity import attention_flex, attention_gather
from gossamer.sparsity.attention import with_prefix

Kernel = Literal["masked", "gather", "flex"]
# (q, k, v (B, H, n, d_h), rows (B, H, n - prefix, n) bool, prefix, dropout) -> (B, H, n, d_h)
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, int, float], Tensor]


def masked(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, prefix: int, dropout: float) -> Tensor:
    mask = with_prefix(rows, prefix)
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    return out.masked_fill(~mask.any(-1, keepdim=True), 0.0)


def gather(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, prefix: int, dropout: float) -> Tensor:
    _without_dropout("gather", dropout)
    return attention_gather.gather(q, k, v, rows, prefix)


def flex(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, prefix: int, dropout: float) -> Tensor:
    _without_dropout("flex", dropout)
    return attention_flex.flex(q, k, v, rows, prefix)


def whole_tiles(
    q: Tensor, k: Tensor, v: Tensor, tiles: Tensor, prefix: int, dropout: float
) -> Tensor:
    """As `flex`, of a map of whole tiles (B, H, t, t) of 128 x 128 on the grid of all tokens: no
    entry of the map is ever made."""
    _without_dropout("flex", dropout)
    return attention_flex.flex_tiles(q, k, v, tiles, prefix)


def _without_dropout(kernel: Kernel, dropout: float) -> None:
    if dropout:
        raise StageError(
            f"kernel={kernel}: attention has dropout {dropout:g} while it trains, which only "
            "kernel=masked computes; use kernel=masked, or no dropout, e.g. model.dropout=0"
        )


ATTEND: dict[str, Attend] = {"masked": masked, "gather": gather, "flex": flex}
