"""Which patches a query keeps as its keys, drawn over the picture: one row for each query, the
picture itself, then a column for each layer.

A patch that no head keeps is dark and grey; one that all heads keep is bright and warm, between
them in proportion; one that was removed before the layer is crossed out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from gossamer.contract import Batch, Picture
from gossamer.models.attention_maps import Kept, kept_maps
from gossamer.models.parts import parts_of

Colour = tuple[int, int, int]
# places of the queries, as shares of the picture's height and width
QUERIES = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.75))
CELL = 168  # pixels of a cell's longer side, about
LEAST = 6  # pixels of a patch
GAP, HEAD, FOOT = 12, 46, 34  # pixels around cells, above and below all of them
GROUND: Colour = (21, 24, 28)  # reads on light and on dark pages
INK: Colour = (226, 229, 233)
FAINT: Colour = (154, 162, 172)
CROSS: Colour = (92, 98, 106)
QUERY: Colour = (64, 214, 255)
WARM: Colour = (255, 170, 20)
DIM = 0.2  # what is left of a patch that no head keeps
TINT = 0.45  # of the warm colour in one that all keep


def connectivity_pictures(
    model: nn.Module,
    batch: Batch,
    queries: Sequence[tuple[float, float]] = QUERIES,
    layers: int = 3,
) -> list[Picture]:
    """A picture for each image of `batch` ("x" ready for the model, and "pixels" (B, height, width,
    3) uint8 if there are; without them patches are grey); none if no layer chooses keys.

    Args:
        queries: the patches whose keys are shown, each by a place in it: shares of the image's
            height and width.
        layers: at most so many of those that choose keys, from the first to the last.
    """
    grid = cast(tuple[int, int], parts_of(model).grid)
    rows, columns = grid
    patches = [int(down * rows) * columns + int(across * columns) for down, across in queries]
    grey = torch.full((*batch["x"].shape[-2:], 3), 128, dtype=torch.uint8)
    depth = len(parts_of(model).attention)
    found = []
    for row, maps in enumerate(kept_maps(model, batch["x"], patches, layers)):
        if not maps:
            return []
        pixels = batch["pixels"][row].cpu() if "pixels" in batch else grey
        drawn = _tensor(_sheet(pixels, grid, maps, patches, depth))
        found.append(Picture(f"keys-{row + 1}", _caption(maps), drawn))
    return found


def _caption(maps: Sequence[Kept]) -> str:
    words = [
        f"The keys of {len(maps[0].share)} query patches (outlined, one in each row): the brighter "
        f"and warmer a patch, the more of the {maps[0].heads} heads keep it; dark: none does."
    ]
    if any(not bool(one.alive.all()) for one in maps):
        words.append("Crossed out: removed before that layer.")
    return " ".join(words)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image, dtype=np.uint8))


def patch_size(grid: tuple[int, int], height: int) -> int:
    """Pixels of a patch's edge as it is drawn: a multiple of its own, so that enlarged pixels stay
    square, unless that would not fit."""
    wanted, own = max(LEAST, CELL // max(grid)), height // grid[0]
    return max(1, round(wanted / own)) * own if own <= wanted else wanted


def cell(
    pixels: Tensor, grid: tuple[int, int], share: Tensor | None, alive: Tensor | None
) -> Image.Image:
    """One image as one layer's query sees it: `share` (P,) of the heads keep a patch, and `alive`
    (P,) says which are left; None: the image as it is."""
    height = pixels.shape[0]
    size = patch_size(grid, height)
    wide, high = grid[1] * size, grid[0] * size
    whole = Image.fromarray(pixels.numpy())
    how = Image.Resampling.NEAREST if high >= height else Image.Resampling.LANCZOS
    enlarged = np.asarray(whole.resize((wide, high), how), dtype=np.float32)
    if share is None or alive is None:
        return Image.fromarray(enlarged.astype(np.uint8))
    dim = DIM * enlarged.mean(-1, keepdims=True)
    lit = (1 - TINT) * enlarged + TINT * np.array(WARM, dtype=np.float32)
    weight = share.reshape(grid).numpy().repeat(size, 0).repeat(size, 1)[..., None]
    drawn = Image.fromarray(np.rint(dim + weight * (lit - dim)).astype(np.uint8))
    draw = ImageDraw.Draw(drawn)
    for place in (~alive).nonzero()[:, 0].tolist():
        left, top = place % grid[1] * size, place // grid[1] * size
        draw.rectangle((left, top, left + size - 1, top + size - 1), GROUND)
        inner = (left + size // 4, top + size // 4, left + size - 1 - size // 4)
        low = top + size - 1 - size // 4
        draw.line((inner[0], inner[1], inner[2], low), CROSS)
        draw.line((inner[0], low, inner[2], inner[1]), CROSS)
    return drawn


def outline(draw: ImageDraw.ImageDraw, left: int, top: int, size: int) -> None:
    """An edge around the patch of `size` pixels whose corner is at (left, top), outside of it."""
    for away, colour in ((3, (0, 0, 0)), (2, QUERY), (1, QUERY)):
        box = (left - away, top - away, left + size - 1 + away, top + size - 1 + away)
        draw.rectangle(box, outline=colour)


def _sheet(
    pixels: Tensor,
    grid: tuple[int, int],
    maps: Sequence[Kept],
    patches: Sequence[int],
    depth: int,
) -> Image.Image:
    size = patch_size(grid, pixels.shape[0])
    wide, high = grid[1] * size + GAP, grid[0] * size + GAP
    area = (GAP + wide * (len(maps) + 1), HEAD + high * len(patches) + FOOT)
    sheet = Image.new("RGB", area, GROUND)
    draw = ImageDraw.Draw(sheet)
    heads = [("picture", "query outlined")]
    for one in maps:
        note = f"keeps {one.keys:.3g} of {one.tokens} keys"
        heads.append((f"layer {one.layer} of {depth}", note))
    for column, (title, note) in enumerate(heads):
        draw.text((GAP + wide * column, 8), title, INK, font=_font(14))
        draw.text((GAP + wide * column, 26), note, FAINT, font=_font(12))
    for line, patch in enumerate(patches):
        drawn = [cell(pixels, grid, None, None)]
        drawn += [cell(pixels, grid, one.share[line], one.alive) for one in maps]
        for column, image in enumerate(drawn):
            left, top = GAP + wide * column, HEAD + high * line
            sheet.paste(image, (left, top))
            outline(draw, left + patch % grid[1] * size, top + patch // grid[1] * size, size)
    _legend(draw, area[1] - FOOT, maps[0].heads)
    return sheet


def _legend(draw: ImageDraw.ImageDraw, top: int, heads: int) -> None:
    """What the shades of a grey patch say, from no head to all."""
    draw.text((GAP, top + 6), "kept by", FAINT, font=_font(12))
    left, size, patch = GAP + 52, 16, torch.full((16, 16, 3), 150, dtype=torch.uint8)
    steps = min(heads, 8)
    draw.text((left, top + 6), "0", FAINT, font=_font(12))
    for step in range(steps + 1):
        share, there = torch.tensor([step / steps]), torch.tensor([True])
        shade = cell(patch, (1, 1), share, there).getpixel((0, 0))
        x = left + 14 + step * (size + 2)
        draw.rectangle((x, top + 5, x + size, top + 5 + size), cast(Colour, shade))
    x = left + 14 + (steps + 1) * (size + 2) + 4
    draw.text((x, top + 6), f"{heads} of {heads} heads", FAINT, font=_font(12))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
