"""What every data module of the house has alike: batches as pure functions of (seed, index), and
Lightning's names for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from gossamer.data.info import DataInfo, SplitName
from gossamer.data.order import OnePass, TrainingOrder, batches_per_epoch, loader


class Batched(LightningDataModule, ABC):
    """A data set whose encoded splits are indexed by lists of rows.

    A subclass sets `batch_size` and `workers`, and has `load`, which sets `_info`, and `rows`.
    """

    name: str  # of the data set, in records and messages
    batch_size: int  # rows, for training over all devices together
    workers: int  # processes that prepare batches; 0: none
    _info: DataInfo | None = None

    @abstractmethod
    def load(self) -> None:
        """Read the splits, once."""

    @abstractmethod
    def rows(self, split: SplitName) -> Any:
        """An encoded split, with its length, the `lengths` of its rows in tokens (rows,), and
        batches by lists of row numbers. RuntimeError before `encode`."""

    @property
    def info(self) -> DataInfo:
        self.load()
        assert self._info is not None
        return self._info

    @property
    def batches_per_epoch(self) -> int:
        return batches_per_epoch(len(self.rows("train")), self.batch_size)

    def train_batches(
        self, seed: int, first: int, count: int, shard: tuple[int, int] = (0, 1)
    ) -> DataLoader:
        """Exactly `count` training batches, from global batch `first` on; of each one the rows that
        are rank `shard[0]`'s of `shard[1]`. See `data.order`."""
        rows = self.rows("train")
        order = TrainingOrder(len(rows), self.batch_size, seed, first, count, shard)
        return loader(rows, order, self.workers, seed)

    def batches(self, split: SplitName, *, seed: int | None = None) -> DataLoader:
        """One pass over a split, as often as it is iterated: in a fixed order (the longest rows
        first), or in a seeded order."""
        rows = self.rows(split)
        return loader(rows, OnePass(rows.lengths, self.batch_size, seed), self.workers, seed or 0)

    def order(self, split: SplitName) -> Tensor:
        """(rows,) Row numbers of a split in the order in which `batches(split)` yields them."""
        batches = OnePass(self.rows(split).lengths, self.batch_size)
        return torch.tensor([row for batch in batches for row in batch])

    def on_device(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What is left to do to a batch of `train_batches` or `batches`, where the model is. What
        `sample` returns is ready."""
        return batch

    def pixels(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """(B, height, width, 3) uint8: a batch of `rows`, before `on_device`, as people see it.
        Pictures that are no bytes are stretched from their least value to their greatest. None: of
        data that are no pictures."""
        if self.info.image is None:
            return None
        x = batch["x"]  # (B, 1 or 3, height, width)
        if x.dtype != torch.uint8:
            low, high = x.amin(), x.amax()
            x = ((x - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8)
        return x.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()

    # Lightning's names for the same, for those who use this module with a Trainer of their own.

    def setup(self, stage: str) -> None:
        del stage
        self.load()

    def val_dataloader(self) -> DataLoader:
        return self.batches("validation")

    def test_dataloader(self) -> DataLoader:
        return self.batches("test")


def too_small(least: Mapping[str, tuple[int | None, int]]) -> list[str]:
    """A line for each argument below its least value, {argument: (value or None, least)}."""
    return [
        f"dataset.{key}={value}: at least {smallest}"
        for key, (value, smallest) in least.items()
        if value is not None and value < smallest
    ]
