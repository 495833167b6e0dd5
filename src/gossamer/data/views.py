"""Splits of pictures as batches of tensors: as evaluation sees them, and as training does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gossamer.data.augment import (
    Augmentation,
    View,
    erased_box,
    generators_untouched,
    mixing,
    seed_row,
)
from gossamer.data.order import TrainingOrder
from gossamer.data.pictures import MODES, Pictures
from gossamer.seeds import derive


@dataclass(frozen=True, eq=False)
class Viewed(Dataset):
    """A split as evaluation sees it: {"x": (B, C, size, size) uint8, "labels": (B,) int64}."""

    pictures: Pictures
    channels: int
    view: View

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def lengths(self) -> Tensor:
        """(rows,) All alike."""
        return torch.zeros(len(self), dtype=torch.int64)

    def __getitem__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return {
            "x": torch.stack([self.seen(row) for row in rows]),
            "labels": torch.tensor([self.pictures.labels[row] for row in rows]),
        }

    def seen(self, row: int) -> Tensor:
        """(C, size, size) uint8"""
        return self.view(self.pictures.decoded(row).convert(MODES[self.channels]))


@dataclass(frozen=True, eq=False)
class Augmented(Dataset):
    """A split as training sees it: what a batch holds is a function of the seed, the batch's number
    and its rows. With random erasing "erased" (B, 4) and "draws" (B,) come with it, with mixed or
    smoothed labels "kept" (B,) and "cut" (B, 4): what `data.finishing` needs."""

    rows: Viewed  # with the training's view
    augmentation: Augmentation
    size: int
    seed: int

    def __getitem__(self, numbered: tuple[int, Sequence[int]]) -> dict[str, Tensor]:
        number, rows = numbered
        augmentation = self.augmentation
        pictures, boxes = [], []
        with generators_untouched():
            for row in rows:
                seed_row(self.seed, number, row)
                pictures.append(self.rows.seen(row))
                boxes.append(erased_box(augmentation.random_erasing, self.size))
        batch = {
            "x": torch.stack(pictures),
            "labels": torch.tensor([self.rows.pictures.labels[row] for row in rows]),
        }
        if augmentation.random_erasing:
            batch["erased"] = torch.tensor(boxes)
            batch["draws"] = torch.tensor([derive(self.seed, "noise", number, r) for r in rows])
        if augmentation.mixes or augmentation.smoothing:
            kept, box = (1.0, (0, 0, 0, 0))
            if augmentation.mixes:
                kept, box = mixing(augmentation, self.seed, number, self.size)
            batch["kept"] = torch.full((len(rows),), kept)
            batch["cut"] = torch.tensor([box] * len(rows))
        return batch


@dataclass(frozen=True)
class Numbered(Sampler):
    """The batches of a training order, each with its number: (number, rows)."""

    order: TrainingOrder

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        yield from enumerate(self.order, self.order.first)
