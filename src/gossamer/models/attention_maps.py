"""Which patches the queries of a model keep, layer by layer, on the grid of its patches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from gossamer.models.attention import attentions, tokens_of, watched
from gossamer.models.inference import inference
from gossamer.models.parts import parts_of


@dataclass(frozen=True)
class Kept:
    """What one layer keeps of an image's P patches. Patches that were removed before the layer keep
    nothing, and nothing keeps them."""

    layer: int  # from 1
    share: Tensor  # (queries, P) of the heads, 0 to 1
    alive: Tensor  # (P,) bool: not removed before
    keys: float  # of a patch's query, the mean over all of them and the heads; class token included
    tokens: int  # that were left to choose from, class token included
    heads: int


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, the first and the last among them, evenly spaced."""
    if count <= most or most < 2:
        return list(range(count))[:most]
    return [place * (count - 1) // (most - 1) for place in range(most)]


def kept_maps(
    model: nn.Module, x: Tensor, patches: Sequence[int], most: int = 3
) -> list[list[Kept]]:
    """For each image of `x` (B, channels, height, width), at most `most` of the layers that choose
    keys: what the queries of `patches` keep. An image at a time, for whole maps are large."""
    every = {path: number for number, path in enumerate(parts_of(model).attention, 1)}
    choosing = [(p, m) for p, m in attentions(model).items() if m.connectivity is not None]
    chosen = [choosing[place] for place in spread(len(choosing), most)]
    prefix, total = parts_of(model).prefix, tokens_of(model)
    images = []
    with inference(model):
        for image in x.split(1):
            found: list[Kept] = []
            with ExitStack() as watches:
                for path, module in chosen:
                    told = partial(_kept, found, every[path], patches, prefix, total - prefix)
                    watches.enter_context(watched(module, told))
                model(x=image)
            images.append(found)
    return images


def _kept(
    found: list[Kept],
    layer: int,
    patches: Sequence[int],
    prefix: int,
    total: int,
    q: Tensor,
    k: Tensor,
    attention: Tensor,
    chosen: Tensor,  # (1, H, n, n)
    positions: Tensor | None,
) -> None:
    maps = chosen[0].cpu()
    where = torch.arange(total) if positions is None else positions[0, prefix:].cpu() - prefix
    alive = torch.zeros(total, dtype=torch.bool)
    alive[where] = True
    share = torch.zeros(len(patches), total)
    for row, patch in enumerate(patches):
        if alive[patch]:
            place = prefix + int((where == patch).nonzero())
            share[row, where] = maps[:, place, prefix:].float().mean(0)
    heads, tokens, _ = maps.shape
    keys = float(maps[:, prefix:].sum(-1).double().mean())
    found.append(Kept(layer, share, alive, keys, tokens, heads))
