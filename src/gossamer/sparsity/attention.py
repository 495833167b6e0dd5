"""Which keys a query attends to: boolean maps (B, H, n, n), and what they keep of attention.

Of the n tokens the first `prefix` (a class token) are none of the patches: their rows are always
dense, and as keys they are chosen like any other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from gossamer.errors import StageError

TILE = 128  # edge of the blocks that sparse kernels skip whole


def budget_of(keep: float, tokens: int) -> int:
    """B = ceil(keep * tokens): 50 of 197 for 0.25."""
    return min(tokens, math.ceil(round(keep * tokens, 6)))


def top_keys(scores: Tensor, budget: int) -> Tensor:
    """The `budget` largest entries of each row of `scores` (…, keys) as a bool tensor of its shape;
    all of them if there are no more.

    Exactly that many are True, whatever the ties: of equal scores the lower index is kept, so a
    smaller budget keeps a part of what a larger one does. Costs a selection, not a sort. Raises
    ValueError for a budget below 1. A NaN counts as the largest."""
    if budget < 1:
        raise ValueError(f"cannot keep {budget} keys of a query: at least 1")
    scores = scores.detach()
    if budget >= scores.shape[-1]:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = scores.topk(budget, dim=-1).values[..., -1:]
    above, tied = scores > threshold, scores == threshold
    left = budget - above.sum(-1, keepdim=True)
    return above | (tied & (tied.cumsum(-1) <= left))


def top_tiles(scores: Tensor, budget: int, tile: int, prefix: int = 0) -> Tensor:
    """The budget spent in whole tiles of the map, so that kernels that skip empty ones gain: a bool
    tensor of the shape of `scores` (…, n - prefix, n), the rows those of the patches.

    Tiles lie on the grid of the whole map (n, n), so the first block of queries has tile - prefix
    rows here, and the last block of queries or of keys may have fewer. Each block of queries gets
    the ceil(budget / tile) tiles of keys whose scores sum to most, over the rows and keys that are
    there; of equal sums the lower index. All its rows have the same keys: `tiled_budget` of them,
    fewer where the last, narrower tile is chosen. With tile 1 it is `top_keys`."""
    if tile == 1:
        return top_keys(scores, budget)
    if budget < 1:
        raise ValueError(f"cannot keep {budget} keys of a query: at least 1")
    scores = scores.detach()
    rows, tokens = scores.shape[-2:]
    sums = functional.pad(
        scores.to(torch.promote_types(scores.dtype, torch.float32)),
        (0, -tokens % tile, prefix, -(rows + prefix) % tile),
    )
    sums = sums.unflatten(-1, (-1, tile)).sum(-1).unflatten(-2, (-1, tile)).sum(-2)
    return spread(top_keys(sums, -(-budget // tile)), tokens, tile, prefix)


def spread(tiles: Tensor, tokens: int, tile: int, prefix: int) -> Tensor:
    """(…, n - prefix, n) bool: the rows of the patches in a map of whole tiles (…, t, t)."""
    rows = tiles.repeat_interleave(tile, dim=-2)[..., prefix:tokens, :]
    return rows.repeat_interleave(tile, dim=-1)[..., :tokens]


def tiled_budget(budget: int, tokens: int, tile: int) -> int:
    """The keys of a query of which `budget` were asked for, in whole tiles."""
    return min(tokens, -(-budget // tile) * tile)


def with_prefix(rows: Tensor, prefix: int) -> Tensor:
    """(B, H, n, n) of the patches' rows (B, H, n - prefix, n): the others are dense."""
    return functional.pad(rows, (0, 0, prefix, 0), value=True) if prefix else rows


def probabilities(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / sqrt(d)) over the keys that `mask` keeps, in float32 at least: (B, H, n, n). A
    row without a key is 0."""
    fine = torch.promote_types(q.dtype, torch.float32)
    logits = (q.to(fine) * q.shape[-1] ** -0.5) @ k.to(fine).transpose(-2, -1)
    if mask is None:
        return logits.softmax(-1)
    attention = logits.masked_fill(~mask, -torch.inf).softmax(-1)
    return attention.masked_fill(~mask.any(-1, keepdim=True), 0.0)


def mass(attention: Tensor, mask: Tensor) -> Tensor:
    """(…) The share of each row of `attention` (…, keys) that stands where `mask` is True."""
    return (attention * mask).sum(-1)


def gathered_pairs(scores: Tensor, positions: Tensor, prefix: int) -> Tensor:
    """(B, H, n' - prefix, n') Of the scores (H, n - prefix, n) of all positions, those of the
    tokens that are left: `positions` (B, n'), the first `prefix` of them 0, 1, …."""
    rows = (positions[:, prefix:] - prefix)[:, :, None]  # (B, n' - prefix, 1)
    return scores[:, rows, positions[:, None, :]].transpose(0, 1)


def tile_density(mask: Tensor, tile: int = TILE) -> float:
    """Share of the tile × tile blocks of `mask` (…, n, n) with any True; those that stick out over
    an edge count as one. A kernel that skips empty blocks computes no less."""
    rows, columns = (-size % tile for size in mask.shape[-2:])
    padded = functional.pad(mask, (0, columns, 0, rows), value=False)
    shape = (*mask.shape[:-2], padded.shape[-2] // tile, tile, padded.shape[-1] // tile, tile)
    return float(padded.reshape(shape).any(-1).any(-2).float().mean())


def same_tokens(found: int, trained: int, where: str) -> None:
    """Raise StageError if what was made for `trained` tokens is given `found`."""
    if found != trained:
        raise StageError(
            f"{where}: this attention was made for {trained} tokens and cannot be given {found}; "
            "train it again at this resolution (dataset.size)"
        )
