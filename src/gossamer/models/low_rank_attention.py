"""timm's attention with keys and values reduced along the tokens: low-rank attention."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from gossamer.models.attention import AttentionInPlace
from gossamer.models.parts import parts_of
from gossamer.sparsity.attention import same_tokens


class LowRankAttention(AttentionInPlace):
    """softmax(Q (Eᵀ K)ᵀ / sqrt(d_h)) (Fᵀ V), with E and F (n, r), which all heads share. They are
    zeros until `fill`.

    Attributes:
        mode: "low rank"; "dense" attends to all keys, as timm does.
    """

    def set_up(self, tokens: int, rank: int) -> None:  # type: ignore[override]
        self.tokens, self.rank = tokens, rank
        self.mode: Literal["low rank", "dense"] = "low rank"
        weight = self.qkv.weight
        zeros = {"device": weight.device, "dtype": weight.dtype}
        self.keys = nn.Parameter(torch.zeros(tokens, rank, **zeros))  # E
        self.values = nn.Parameter(torch.zeros(tokens, rank, **zeros))  # F

    @torch.no_grad()
    def fill(self, prefix: int) -> None:
        """Both as `group_means`."""
        means = group_means(self.tokens, self.rank, prefix)
        self.keys.copy_(means)
        self.values.copy_(means)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """(B, n, d) to (B, n, d). Raises ValueError for a mask, StageError for another n."""
        return self.joined(self.mixed(*self.of_heads(x, attn_mask, is_causal)))

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, n, d_h) The values, mixed; queries and keys are normalised already."""
        if self.mode == "low rank":
            same_tokens(k.shape[-2], self.tokens, "linformer")
            k, v = reduced(k, self.keys), reduced(v, self.values)
        return nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)


def reduced(x: Tensor, projection: Tensor) -> Tensor:
    """(…, r, d) Eᵀ X, of tokens (…, n, d) and a projection (n, r)."""
    return (x.transpose(-2, -1) @ projection.to(x.dtype)).transpose(-2, -1)


def group_means(tokens: int, rank: int, prefix: int) -> Tensor:
    """(n, r) A projection whose columns are means of contiguous groups of tokens, whose sizes
    differ by one at most; the first `prefix` tokens are groups of their own if others remain for
    the patches. With r = n it is the identity."""
    alone = prefix if rank > prefix else 0
    place = torch.arange(tokens - alone)
    group = alone + place * (rank - alone) // (tokens - alone)
    group = torch.cat([torch.arange(alone), group])  # (n,)
    member = nn.functional.one_hot(group, rank).float()
    return member / member.sum(0)


def low_rank_attentions(model: nn.Module) -> dict[str, LowRankAttention]:
    """The `LowRankAttention` modules, by path, in execution order."""
    found: dict[str, Any] = {path: model.get_submodule(path) for path in parts_of(model).attention}
    return {p: m for p, m in found.items() if isinstance(m, LowRankAttention)}
