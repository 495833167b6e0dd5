"""Queries, keys, values and maps drawn for tests of attention with chosen keys."""

import torch
from torch import Tensor

from gossamer.sparsity.attention import top_keys


def drawn(
    batch: int, heads: int, tokens: int, width: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (B, H, n, d_h)"""
    generator = torch.Generator().manual_seed(tokens + width)
    shape = (3, batch, heads, tokens, width)
    q, k, v = torch.randn(shape, generator=generator).to(dtype).unbind(0)
    return q, k, v


def chosen(batch: int, heads: int, tokens: int, prefix: int, budget: int) -> Tensor:
    """(B, H, n - prefix, n) `budget` keys of each row, drawn."""
    generator = torch.Generator().manual_seed(budget)
    return top_keys(torch.rand(batch, heads, tokens - prefix, tokens, generator=generator), budget)


def by_hand(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, prefix: int) -> Tensor:
    """Query by query, in float64."""
    out = torch.zeros_like(q, dtype=torch.float64)
    batch, heads, tokens, width = q.shape
    for b in range(batch):
        for h in range(heads):
            for i in range(tokens):
                keys = range(tokens)
                if i >= prefix:
                    keys = [j for j in keys if rows[b, h, i - prefix, j]]
                if len(keys):
                    of = list(keys)
                    logits = k[b, h, of].double() @ q[b, h, i].double() / width**0.5
                    out[b, h, i] = logits.softmax(0) @ v[b, h, of].double()
    return out
