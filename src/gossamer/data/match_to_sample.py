"""Pictures that only a look-up by content can answer: find the tile with the cue's glyph, name its
colour. They are generated, row by row, where they are needed.

A model whose attention looks at the same places in every picture, or at random ones, cannot do it,
so what it scores tells whether attention found what it had to find (Graves et al. 2014 asked their
memories for the same, arXiv:1410.5401).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gossamer.data.finishing import hashed, noise, normalised
from gossamer.data.info import SPLITS, DataInfo, SplitName
from gossamer.data.module import Batched, too_small
from gossamer.errors import ConfigError
from gossamer.seeds import derive, generator

DIM = 85  # not 0: a glyph that is black in a channel could not be compared there with the cue's
COLORS = {
    "red": (255, DIM, DIM),
    "green": (DIM, 255, DIM),
    "blue": (DIM, DIM, 255),
    "yellow": (255, 255, DIM),
    "magenta": (255, DIM, 255),
    "cyan": (DIM, 255, 255),
}
WHITE = (255, 255, 255)  # the cue
EDGE = 4  # cells of a glyph's edge
KINDS = 3  # of tile in a bursty picture, beside cues
DISTANCE = 6  # least number of cells, of 16, in which two glyphs differ
MOST = 48  # glyphs that are drawn
MEAN, STD = 0.33, 0.42  # of a pixel: half of the cells are set, half of the channels bright
ROOM = 100_000_000  # the most rows of a split: the order of an epoch is in memory, 8 bytes a row


@dataclass(frozen=True)
class Pattern:
    """What a picture is made of, as in `MatchToSample`."""

    rows: int
    columns: int
    tile: int
    glyphs: int
    colors: int

    @property
    def tiles(self) -> int:
        return self.rows * self.columns


class MatchToSample(Batched):
    """Pictures of rows x columns tiles on black. Each tile holds a glyph (4 x 4 cells, half of them
    set) in one of the colours, drawn at random, but for one tile, the cue, whose glyph is white.
    Exactly one other tile has the cue's glyph, and its colour is the label. Where the two are, the
    glyph and all colours are uniform draws; the remaining tiles draw from the other glyphs, with
    repetition. `bursty` makes a share of the training pictures easier.

    Row i of a split is the same picture on any number of workers and devices and in every run; no
    two rows of the three splits are alike. Rows that are not asked for cost nothing.

    Args:
        rows, columns: of tiles.
        tile: pixels of a tile's edge, a multiple of 4.
        glyphs: how many there are, at most 48.
        colors: classes, the first of red, green, blue, yellow, magenta and cyan.
        bursty: share of the training pictures that are easier: equally many tiles are cues, their
            matches (of one colour), and each of two other kinds. Looking up is learned sooner with
            them (compare Chan et al. 2022, arXiv:2205.05055). Evaluation has none.
        noise: standard deviation of the normal noise on every pixel, on a scale from 0 to 1.
        train, validation, test: rows of the splits.
        batch_size: pictures per batch, for training (over all devices together) and evaluation.
        workers: processes that draw the pictures; 0: none.
    """

    name = "match_to_sample"

    def __init__(
        self,
        rows: int = 1,
        columns: int = 17,
        tile: int = 4,
        glyphs: int = 24,
        colors: int = 6,
        bursty: float = 0.5,
        noise: float = 0.1,
        train: int = 1_000_000,
        validation: int = 1000,
        test: int = 2000,
        batch_size: int = 256,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.pattern = Pattern(rows, columns, tile, glyphs, colors)
        self.bursty, self.noise = bursty, noise
        self.sizes: dict[SplitName, int] = {
            "train": train,
            "validation": validation,
            "test": test,
        }
        self.batch_size, self.workers = batch_size, workers
        if problems := self._problems():
            raise ConfigError(*problems)

    def _problems(self) -> list[str]:
        pattern = self.pattern
        least = {
            "rows": (pattern.rows, 1),
            "columns": (pattern.columns, 1),
            "glyphs": (pattern.glyphs, 2),
            "colors": (pattern.colors, 2),
            "batch_size": (self.batch_size, 1),
            "workers": (self.workers, 0),
        }
        found = too_small(least | {split: (size, 1) for split, size in self.sizes.items()})
        if not found and pattern.tiles < 3:
            found.append(
                f"dataset.rows={pattern.rows} dataset.columns={pattern.columns}: at least 3 tiles, "
                f"the cue, its match and another one"
            )
        if pattern.tile < EDGE or pattern.tile % EDGE:
            found.append(f"dataset.tile={pattern.tile}: a multiple of {EDGE}, a glyph's cells")
        if pattern.glyphs > MOST:
            found.append(f"dataset.glyphs={pattern.glyphs}: at most {MOST}")
        if pattern.colors > len(COLORS):
            found.append(f"dataset.colors={pattern.colors}: at most {len(COLORS)}")
        if not 0 <= self.bursty <= 1:
            found.append(f"dataset.bursty={self.bursty}: from 0 to 1")
        if not self.noise >= 0:
            found.append(f"dataset.noise={self.noise}: at least 0")
        found += [
            f"dataset.{split}={size}: at most {ROOM}"
            for split, size in self.sizes.items()
            if size > ROOM
        ]
        return found

    def load(self) -> None:
        pattern = self.pattern
        self._info = DataInfo(
            kind="image",
            classes=tuple(COLORS)[: pattern.colors],
            rows=dict(self.sizes),
            max_length=0,
            metrics=("accuracy", "ece"),
            name=self.name,
            image=(3, pattern.rows * pattern.tile, pattern.columns * pattern.tile),
        )

    def fingerprint(self) -> str:
        """sha256 of what decides the pictures."""
        glyphs = glyphs_drawn().flatten().tolist()
        told = (astuple(self.pattern), self.bursty, self.noise, self.sizes, COLORS, WHITE, glyphs)
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def rows(self, split: SplitName) -> Drawn:
        """A split, in pixels without noise."""
        bursty = self.bursty if split == "train" else 0.0
        return Drawn(self.pattern, SPLITS.index(split), self.sizes[split], bursty)

    def on_device(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """{"x": (B, 3, H, W) float32, noisy and normalised, "labels": (B,)}"""
        x = normalised(batch["x"], (MEAN,) * 3, (STD,) * 3)
        if self.noise:
            x = x + noise(batch["draws"], x[0].numel()).view_as(x) * (self.noise / STD)
        return {"x": x, "labels": batch["labels"]}

    def sample(self, batch_size: int) -> Mapping[str, Tensor]:
        """The first rows of training (from the start again if there are fewer), ready for the
        model."""
        rows = self.rows("train")
        return self.on_device(rows[[row % len(rows) for row in range(batch_size)]])


@dataclass(frozen=True)
class Drawn(Dataset):
    """A split: {"x": (B, 3, H, W) uint8, clean, "labels": (B,) int64, "draws": (B,) int64, what the
    noise of each row is a function of}."""

    pattern: Pattern
    place: int  # of the split
    size: int
    bursty: float

    def __len__(self) -> int:
        return self.size

    @property
    def lengths(self) -> Tensor:
        """(rows,) All alike."""
        return torch.zeros(self.size, dtype=torch.int64)

    def __getitem__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        numbers = torch.tensor(rows, dtype=torch.int64) + self.place * ROOM
        found = laid_out(_draws("tiles", numbers), self.pattern)
        if self.bursty:
            # (B,) from 0 to 1, of 24 bits
            share = (_draws("share", numbers) & (2**24 - 1)).double() / 2**24
            chosen = share < self.bursty
            bursts = laid_out_in_bursts(_draws("bursts", numbers[chosen]), self.pattern)
            for whole, part in zip(found, bursts, strict=True):
                whole[chosen] = part
        glyphs, colors, labels = found
        return {
            "x": painted(glyphs, colors, self.pattern),
            "labels": labels,
            "draws": _draws("noise", numbers),
        }


def _draws(purpose: str, numbers: Tensor) -> Tensor:
    """(B,) A number per row number, and never the same for two of them."""
    return hashed(numbers + derive(0, "match_to_sample", purpose), 1)[:, 0]


def laid_out(draws: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor, Tensor]:
    """(glyphs (B, tiles), colours (B, tiles), labels (B,)) of the pictures that `draws` (B,) stand
    for; the cue's colour is `len(COLORS)`."""
    tiles, glyphs, colors = pattern.tiles, pattern.glyphs, pattern.colors
    numbers = hashed(draws, 3 + 2 * tiles)
    cue = numbers[:, 0] % tiles  # (B,)
    match = (cue + 1 + numbers[:, 1] % (tiles - 1)) % tiles  # (B,), any other tile
    glyph = numbers[:, 2:3] % glyphs  # (B, 1)
    distractors = 1 + numbers[:, 3 : 3 + tiles] % (glyphs - 1)
    found = (glyph + distractors) % glyphs  # (B, tiles), any other glyph
    found = found.scatter(1, torch.stack([cue, match], 1), glyph.expand(-1, 2))
    color = numbers[:, 3 + tiles :] % colors  # (B, tiles)
    labels = color.gather(1, match[:, None])[:, 0]
    return found, color.scatter(1, cue[:, None], len(COLORS)), labels


def laid_out_in_bursts(draws: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor, Tensor]:
    """As `laid_out`, of cues and `KINDS` other kinds of tile, equally many of each (or one more):
    what the cues' kind is, and which tiles are of it, is all that there is to find."""
    tiles, glyphs, colors = pattern.tiles, pattern.glyphs, pattern.colors
    kinds = min(KINDS, glyphs)
    numbers = hashed(draws, 1 + tiles + glyphs + colors)
    asked, order, named, tinted = numbers.split([1, tiles, glyphs, colors], 1)
    asked = asked % kinds  # (B, 1)
    kind = order.argsort(1).argsort(1) % (kinds + 1)  # (B, tiles)
    cue = kind == kinds
    kind = torch.where(cue, asked, kind)
    palette = tinted.argsort(1)  # (B, colors)
    color = palette.gather(1, kind % colors).masked_fill(cue, len(COLORS))
    return named.argsort(1).gather(1, kind), color, palette.gather(1, asked % colors)[:, 0]


def painted(glyphs: Tensor, colors: Tensor, pattern: Pattern) -> Tensor:
    """(B, 3, H, W) uint8 pictures of what `laid_out` found."""
    paint = torch.tensor([*COLORS.values(), WHITE], dtype=torch.uint8)[colors]  # (B, tiles, 3)
    cells = glyphs_drawn()[glyphs]  # (B, tiles, 4, 4)
    x = cells[:, :, None] * paint[..., None, None]  # (B, tiles, 3, 4, 4)
    x = x.unflatten(1, (pattern.rows, pattern.columns)).permute(0, 3, 1, 4, 2, 5)
    scale = pattern.tile // EDGE
    x = x[:, :, :, :, None, :, :, None].expand(*x.shape[:4], scale, *x.shape[4:], scale)
    return x.reshape(len(x), 3, pattern.rows * pattern.tile, pattern.columns * pattern.tile)


@cache
def glyphs_drawn() -> Tensor:
    """(48, 4, 4) uint8: glyphs with 8 of 16 cells set, any two different in at least 6; the first
    of them do not depend on how many are used."""
    patterns = torch.zeros(12870, EDGE * EDGE, dtype=torch.uint8)  # 16 choose 8
    chosen = torch.tensor(list(itertools.combinations(range(EDGE * EDGE), 8)))
    patterns.scatter_(1, chosen, 1)
    order = torch.randperm(len(patterns), generator=generator(0, "match_to_sample", "glyphs"))
    left, kept = patterns[order], []
    for _ in range(MOST):
        kept.append(left[0])
        left = left[(left != left[0]).sum(1) >= DISTANCE]
    return torch.stack(kept).view(MOST, EDGE, EDGE)
