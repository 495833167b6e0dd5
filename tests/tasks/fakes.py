"""A model whose logits are known, and data around it."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from gossamer.data.info import DataInfo


class Told(nn.Module):
    """Returns the logits that its input carries; dropout shows whether it runs in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.9)
        self.frozen = nn.Dropout(0.9).eval()
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return SimpleNamespace(logits=self.frozen(self.dropout(input_ids * self.scale)))


class Data:
    """Logits as inputs, in batches of a given size."""

    def __init__(
        self, logits: Tensor, labels: Tensor, metrics: tuple[str, ...], batch: int
    ) -> None:
        classes = None if labels.is_floating_point() else tuple("abcdefgh"[: logits.shape[1]])
        self.info = DataInfo("text", classes, {"test": len(labels)}, 8, metrics, "told")
        self.logits, self.labels, self.batch = logits, labels, batch

    def batches(self, split: str) -> list[dict[str, Tensor]]:
        assert split == "test"
        return [
            {
                "input_ids": self.logits[i : i + self.batch],
                "labels": self.labels[i : i + self.batch],
            }
            for i in range(0, len(self.labels), self.batch)
        ]

    def on_device(self, batch):
        return batch

    def sample(self, size: int) -> dict[str, Tensor]:
        rows = torch.arange(size) % len(self.labels)
        return {"input_ids": self.logits[rows], "labels": self.labels[rows]}
