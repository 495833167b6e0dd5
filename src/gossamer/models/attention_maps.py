"""Which patches the queries of a model keep, layer by layer, on the grid of its patches."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.models.attention import Watch, attentions, tokens_of, watched
from gossamer.models.inference import inference
from gossamer.models.parts import parts_of


@dataclass(frozen=True)
class Kept:
    """What one layer keeps of P patches. Patches that were removed before it keep and are kept
    by nothing."""

    layer: int  # from 1
    share: Tensor  # (B, P, P) of the heads, 0 to 1: row query, column key
    alive: Tensor  # (B, P) bool: not removed before
    keys: Tensor  # (B,) of a patch's query, the mean over queries and heads, class token included
    tokens: Tensor  # (B,) that were left to choose from, class token included
    heads: int


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, the first and the last among them, evenly spaced."""
    if count <= most or most < 2:
        return list(range(count))[:most]
    return [place * (count - 1) // (most - 1) for place in range(most)]


def kept_maps(model: nn.Module, x: Tensor, most: int = 3) -> list[Kept]:
    """Of at most `most` of the layers that choose keys, in one pass over images `x`."""
    total = list(parts_of(model).attention)
    choosing = [
        (total.index(path) + 1, module)
        for path, module in attentions(model).items()
        if module.connectivity is not None
    ]
    found: dict[int, Kept] = {}
    with ExitStack() as watches, inference(model):
        for place in spread(len(choosing), most):
            layer, module = choosing[place]
            told = _telling(found, layer, parts_of(model).prefix, tokens_of(model))
            watches.enter_context(watched(module, told))
        model(x=x)
    return [found[layer] for layer in sorted(found)]


def _telling(found: dict[int, Kept], layer: int, prefix: int, tokens: int) -> Watch:
    def watch(
        q: Tensor, k: Tensor, attention: Tensor, chosen: Tensor, positions: Tensor | None
    ) -> None:
        found[layer] = _kept(layer, chosen, positions, prefix, tokens - prefix)

    return watch


def _kept(layer: int, chosen: Tensor, positions: Tensor | None, prefix: int, patches: int) -> Kept:
    rows = chosen[:, :, prefix:].float()  # (B, H, p, n), p patches are left
    batch, heads, _, tokens = rows.shape
    share = rows[..., prefix:].mean(1)  # (B, p, p)
    if positions is None:
        where = torch.arange(patches, device=chosen.device).expand(batch, patches)
    else:
        where = positions[:, prefix:] - prefix  # (B, p)
    each = torch.arange(batch, device=chosen.device)[:, None]
    whole = share.new_zeros(batch, patches, patches)
    whole[each[:, :, None], where[:, :, None], where[:, None, :]] = share
    alive = torch.zeros(batch, patches, dtype=torch.bool, device=chosen.device)
    alive[each, where] = True
    keys = rows.sum(-1).mean((1, 2))
    return Kept(
        layer, whole.cpu(), alive.cpu(), keys.cpu(), torch.full((batch,), float(tokens)), heads
    )
