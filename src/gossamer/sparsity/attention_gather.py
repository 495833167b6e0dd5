"""Attention that computes only the products it keeps: the B keys of each query are gathered.

Of n queries with B keys each this takes 2 n B d multiply-accumulates and reads n B keys and values
of d numbers, where the dense products read n of each once for a block of queries. So it is bound by
memory, not by arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gossamer.sparsity.attention import probabilities

# numbers of the keys gathered at once, and of the values
CHUNK = 1 << 20  # on a CPU: what its cache holds; four times as many took twice as long
CHUNK_ELSEWHERE = 1 << 26


def gather(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, prefix: int) -> Tensor:
    """(B, H, n, d_h) Attention of the first `prefix` queries to all keys, of the others to those of
    `rows` (B, H, n - prefix, n); a row without a key gives 0.

    A chunk of queries at a time, and so again on the way back, where the keys are gathered once
    more: beside q, k, v, `rows` and the result, memory is that of CHUNK numbers and one chunk's
    scores, whatever n. A chunk takes as many keys as the largest of its rows."""
    with torch.no_grad():
        largest = int(rows.sum(-1, dtype=torch.int32).max()) if rows.numel() else 0
    size = chunk(q, max(1, largest))
    training = torch.is_grad_enabled() and any(each.requires_grad for each in (q, k, v))
    parts = [_dense(q[:, :, :prefix], k, v)] if prefix else []
    for begin in range(0, rows.shape[2], size):
        index, there = indices(rows[:, :, begin : begin + size])
        given = (q[:, :, prefix + begin : prefix + begin + size], k, v, index, there)
        if training:
            made = checkpoint(gathered, *given, use_reentrant=False, preserve_rng_state=False)
        else:
            made = gathered(*given)
        parts.append(made)
    return torch.cat(parts, dim=2) if parts else q.new_zeros(q.shape)


def chunk(q: Tensor, budget: int) -> int:
    """The queries of one chunk: at least 1."""
    batch, heads, _, width = q.shape
    most = CHUNK if q.device.type == "cpu" else CHUNK_ELSEWHERE
    return max(1, most // (batch * heads * budget * width))


def indices(rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Of a map (B, H, c, n): the keys of each row in rising order (B, H, c, b), b the largest count
    of them, and which of these are there; None if all are. What is not there is key 0."""
    counts = rows.sum(-1)
    places = rows.flatten(0, 2).nonzero()  # (all of them, 2), row by row
    b = int(counts.max()) if counts.numel() else 0
    if len(places) == counts.numel() * b:
        return places[:, 1].reshape(*rows.shape[:-1], b), None
    row, key = places.unbind(1)
    flat = counts.flatten()
    index = key.new_zeros(len(flat), b)
    index[row, torch.arange(len(row), device=row.device) - (flat.cumsum(0) - flat)[row]] = key
    there = torch.arange(b, device=row.device) < counts[..., None]
    return index.view(*rows.shape[:-1], b), there


def gathered(q: Tensor, k: Tensor, v: Tensor, index: Tensor, there: Tensor | None) -> Tensor:
    """(B, H, c, d_h) Attention of the queries (B, H, c, d_h) to the keys `index` (B, H, c, b) that
    are `there`. The softmax is taken in float32 at least."""
    batch, heads, tokens, width = k.shape
    first = torch.arange(batch * heads, device=k.device).view(batch, heads, 1, 1) * tokens
    of = index + first  # into all rows of all heads
    keys = functional.embedding(of, k.reshape(-1, width))  # (B, H, c, b, d_h)
    logits = (q.unsqueeze(-2) * width**-0.5) @ keys.transpose(-2, -1)  # (B, H, c, 1, b)
    logits = logits.to(torch.promote_types(q.dtype, torch.float32))
    if there is not None:
        logits = logits.masked_fill(~there.unsqueeze(-2), -torch.inf)
    attention = logits.softmax(-1)
    if there is not None:
        attention = attention.masked_fill(~there.any(-1)[..., None, None], 0.0)
    values = functional.embedding(of, v.reshape(-1, v.shape[-1]))
    return (attention.to(v.dtype) @ values).squeeze(-2)


def _dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return probabilities(q, k).to(v.dtype) @ v
