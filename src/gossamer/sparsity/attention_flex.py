"""Attention in torch's FlexAttention, which skips the tiles of a map that have no key in them.

A tile is 128 queries x 128 keys. Time goes with the tiles that are not empty, not with the keys: a
map of single entries (`top_keys`) leaves hardly a tile empty at a budget worth having, one of whole
tiles (`top_tiles`) leaves as many as it says.

Without torch.compile FlexAttention computes the dense products and says nothing but a warning. So
it is compiled here, and the compiled code itself makes sure of it: whatever has torch run it as it
stands (TORCH_COMPILE_DISABLE=1, a stance, too many shapes) ends in an error. One program is
compiled for each shape, dtype and device, which takes seconds: with sizes left open, its C++ does
not compile (torch 2.15).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad

from gossamer.errors import StageError
from gossamer.sparsity.attention import TILE, with_prefix

PROGRAMS = 64  # shapes, dtypes and devices for which there may be a program in one process
NARROWEST = 16  # head dimension on CUDA
INSTEAD = "use kernel=masked, which computes the same"


def flex(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, prefix: int) -> Tensor:
    """(B, H, n, d_h) Attention of the first `prefix` queries to all keys, of the others to those of
    `rows` (B, H, n - prefix, n); a row without a key gives 0.

    On CUDA it trains; on a CPU there is no way back. Raises StageError for what it cannot compute,
    and where there is no compiler."""
    return _attend(q, k, v, block_mask(rows, prefix))


def flex_tiles(q: Tensor, k: Tensor, v: Tensor, tiles: Tensor, prefix: int) -> Tensor:
    """(B, H, n, d_h) As `flex`, of a map of whole tiles (B, H, t, t): no map of single entries is
    made."""
    return _attend(q, k, v, tiled_mask(tiles, q.shape[-2], prefix))


def _attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
    if reason := unable(q, k, v):
        raise StageError(f"kernel=flex: {reason}; {INSTEAD}")
    if torch.compiler.is_compiling():  # the whole model is
        return _certain(q, k, v, blocks)
    if not torch.is_grad_enabled():
        q, k, v = q.detach(), k.detach(), v.detach()
    with torch._dynamo.config.patch(recompile_limit=PROGRAMS):
        return _compiled()(q, k, v, blocks)


def unable(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Why FlexAttention cannot compute this here; None: it can."""
    kind, dtype = q.device.type, str(q.dtype).removeprefix("torch.")
    if kind not in ("cpu", "cuda"):
        return f"FlexAttention is not used on {kind}"
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"FlexAttention computes in float32, float16 and bfloat16, not in {dtype}"
    if kind == "cpu" and torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        return "FlexAttention has no gradients on a CPU; train with kernel=masked or kernel=gather"
    if kind == "cuda" and q.shape[-1] < NARROWEST:
        return f"FlexAttention needs heads of {NARROWEST} numbers at least, not {q.shape[-1]}"
    return no_compiler(kind)


@cache
def no_compiler(kind: str) -> str | None:
    """Why torch.compile cannot make the program on this kind of device; None: it can."""
    if kind == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else "there is no Triton; type pip install triton"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "there is no C++ compiler; install g++ or clang++"
    if not torch.cpu._is_avx2_supported():
        return "FlexAttention needs a processor with AVX2"
    return None


def block_mask(rows: Tensor, prefix: int, tile: int = TILE) -> BlockMask:
    """What FlexAttention is told of a map: for each block of queries the tiles that are full, and
    those in which the map itself must be asked. One that sticks out over an edge is never full."""
    tokens = rows.shape[-1]
    over = -tokens % tile
    whole = pad(with_prefix(rows, prefix), (0, over, 0, over), value=False)
    tiles = whole.unflatten(-1, (-1, tile)).unflatten(-3, (-1, tile))  # (…, t, tile, t, tile)
    some, full = tiles.any(-1).any(-2), tiles.all(-1).all(-2)

    def kept(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if not prefix:
            return rows[batch, head, query, key]
        return (query < prefix) | rows[batch, head, (query - prefix).clamp(min=0), key]

    return _block_mask(some, full, kept, tokens, tile)


def tiled_mask(tiles: Tensor, tokens: int, prefix: int, tile: int = TILE) -> BlockMask:
    """What FlexAttention is told of a map of whole tiles (B, H, t, t) on the grid of all tokens.
    The first `prefix` queries are dense: in their blocks tiles that are not chosen are not empty
    either, and the map is asked."""
    some, full = tiles.clone(), tiles.clone()
    some[..., : -(-prefix // tile), :] = True
    if tokens % tile:
        full[..., -1, :] = full[..., -1] = False

    def kept(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query < prefix) | tiles[batch, head, query // tile, key // tile]

    return _block_mask(some, full, kept, tokens, tile)


def _block_mask(
    some: Tensor, full: Tensor, kept: Callable[..., Tensor], tokens: int, tile: int
) -> BlockMask:
    return BlockMask.from_kv_blocks(
        *_listed(some & ~full),
        *_listed(full),
        BLOCK_SIZE=tile,
        mask_mod=kept,
        seq_lengths=(tokens, tokens),
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Of tiles (B, H, t, t): how many of each row are True, and all of them, these first."""
    order = tiles.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    return tiles.sum(-1, dtype=torch.int32), order.to(torch.int32)


def _certain(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
    """FlexAttention, in compiled code only."""
    if not torch.compiler.is_compiling():  # False as it is traced: nothing of it is left then
        raise StageError(
            "kernel=flex: torch runs this without compiling it, and FlexAttention would compute "
            f"the dense products; unset TORCH_COMPILE_DISABLE and TORCHDYNAMO_DISABLE, or {INSTEAD}"
        )
    out: Tensor = flex_attention(q, k, v, block_mask=blocks)
    return out


@cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_certain, fullgraph=True, dynamic=False)
