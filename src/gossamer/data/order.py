"""The order of batches as a pure function of (seed, batch index), so that resuming continues it.

No sampler here holds a state: batch i of a training run is the same whether it is read as the i-th
of one pass or as the first after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gossamer.seeds import generator


def batches_per_epoch(rows: int, batch_size: int) -> int:
    """Full batches in `rows` rows; a split smaller than one batch is one (smaller) batch."""
    return max(1, rows // batch_size)


def epoch_order(rows: int, seed: int, epoch: int) -> Tensor:
    """(rows,) The permutation of one epoch."""
    return torch.randperm(rows, generator=generator(seed, "order", epoch))


class TrainingOrder(Sampler[list[int]]):
    """Exactly `count` batches of row indices, beginning with global batch `first`.

    Batch i belongs to epoch i // batches_per_epoch and takes its place in that epoch's permutation;
    the rows left over after an epoch's last full batch are not seen in that epoch.

    Args:
        shard: (rank, size): only every size-th row of each batch, from row `rank` on, so that the
            batches of all ranks together are those of one process.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        first: int,
        count: int,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.first, self.count = first, count
        self.rank, self.size = shard

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = batches_per_epoch(self.rows, self.batch_size)
        epoch, order = -1, torch.empty(0)
        for index in range(self.first, self.first + self.count):
            if index // per_epoch != epoch:
                epoch = index // per_epoch
                order = epoch_order(self.rows, self.seed, epoch)
            start = (index % per_epoch) * self.batch_size
            yield order[start : start + self.batch_size][self.rank :: self.size].tolist()


class OnePass(Sampler[list[int]]):
    """Every row once, the last partial batch included.

    Without a seed the longest rows come first (rows of one length in their order), so that a batch
    holds rows of about one length and little of it is padding; with a seed, a seeded order.

    Args:
        lengths: (rows,) tokens of each row.
    """

    def __init__(self, lengths: Tensor, batch_size: int, seed: int | None = None) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rows = len(self.lengths)
        if self.seed is None:
            order = torch.argsort(self.lengths, descending=True, stable=True)
        else:
            order = torch.randperm(rows, generator=generator(self.seed, "pass"))
        for start in range(0, rows, self.batch_size):
            yield order[start : start + self.batch_size].tolist()


def loader(dataset: Dataset, order: Sampler[list[int]], workers: int, seed: int) -> DataLoader:
    """A DataLoader that asks `dataset` for whole batches (`dataset[list of rows]`).

    It draws its workers' seeds from a generator of its own: without one, every pass over a loader
    would take a number from the global generator, and so change what the training draws next.
    """
    return DataLoader(
        dataset,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        generator=generator(seed, "workers"),
    )
