"""Small pictures in memory, the task that reads them, and the vision transformer that does."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gossamer.data.info import DataInfo
from gossamer.data.module import Batched
from gossamer.seeds import derive
from gossamer.tasks.classification import Classification
from gossamer.tasks.evaluation import inputs_of

TINY = {
    "source": "deit_tiny_patch16_224",
    "weights": "init",
    "patch": 4,
    "width": 32,
    "layers": 2,
    "heads": 4,
    "neurons": 48,
}


@dataclass(frozen=True, eq=False)
class Drawn(Dataset):
    """One split; indexed by row lists."""

    x: Tensor  # (rows, 1, 8, 8) float32
    labels: Tensor  # (rows,) int64

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        return torch.ones(len(self), dtype=torch.long)

    def __getitem__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return {"x": self.x[rows], "labels": self.labels[rows]}


class Pictures(Batched):
    """Three classes of noisy pictures, 1 x 8 x 8: each is bright in another third of its rows."""

    name = "pictures"
    batch_size, workers = 8, 0
    sizes = {"train": 48, "validation": 12, "test": 12}  # noqa: RUF012

    def load(self) -> None:
        if self._info is not None:
            return
        draw = torch.Generator().manual_seed(derive(0, "pictures"))
        self.splits = {}
        for split, rows in self.sizes.items():
            labels = torch.arange(rows) % 3
            x = torch.randn(rows, 1, 8, 8, generator=draw)
            for row, label in enumerate(labels.tolist()):
                x[row, :, 3 * label : 3 * label + 2] += 2
            self.splits[split] = Drawn(x, labels)
        self._info = DataInfo(
            kind="image",
            classes=("top", "middle", "bottom"),
            rows=dict(self.sizes),
            max_length=0,
            metrics=("accuracy", "macro_f1"),
            name=self.name,
            image=(1, 8, 8),
        )

    def rows(self, split):
        return self.splits[split]

    def fingerprint(self) -> str:
        return self.name

    def sample(self, batch_size: int) -> dict[str, Tensor]:
        train = self.splits["train"]
        return train[(torch.arange(batch_size) % len(train)).tolist()]


class PictureClassification(Classification):
    """Classification by a model that returns the logits themselves."""

    accepts = frozenset({"image"})

    def forward(self, model, batch):
        return {"logits": model(**inputs_of(batch))}
