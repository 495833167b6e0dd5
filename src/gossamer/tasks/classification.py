"""Classification: cross-entropy, and the data set's own metrics."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
)

from gossamer.contract import Batch, Output, Teacher
from gossamer.data.info import DataInfo, SplitName
from gossamer.tasks.evaluation import in_rows, inputs_of, metric_problems, predict, workloads


class Classification:
    """One class per row.

    Args:
        metric: the primary metric, one of the data set's or "loss"; None: the data set's first.
    """

    accepts = frozenset({"text"})

    def __init__(self, metric: str | None = None) -> None:
        self.metric = metric

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        """Problems, one line each, of this task with this data."""
        del model
        info = data.info
        if info.classes is None:
            return [
                f"task=classification: {info.name} has scores, no classes; type task=regression"
            ]
        if "f1" in info.metrics and len(info.classes) != 2:
            return [f"dataset={info.name}: f1 is of two classes, not {len(info.classes)}"]
        return metric_problems(self.metric, info.metrics, info.name)

    def primary(self, info: DataInfo) -> tuple[str, Literal["max", "min"]]:
        """The metric that models are compared by, and which way is better."""
        name = self.metric or info.metrics[0]
        return name, "min" if name == "loss" else "max"

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """{"logits": (B, classes)}"""
        return {"logits": model(**inputs_of(batch)).logits}

    def loss(self, batch: Batch, output: Output) -> Tensor:
        """Mean cross-entropy of the batch, in nats: a scalar, float32 whatever the logits are."""
        return functional.cross_entropy(output["logits"].float(), batch["labels"])

    def losses(
        self, model: nn.Module, task: Any, batch: Batch, output: Output, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        del model, task, teacher
        return {"task": self.loss(batch, output)}

    def evaluate(
        self,
        model: nn.Module,
        data: Any,
        split: SplitName,
        reference: nn.Module | None = None,
        device: str | torch.device = "cpu",
        rows: dict[str, Tensor] | None = None,
    ) -> dict[str, float]:
        """The data set's metrics (fractions, Matthews in [-1, 1]) and "loss" on a split.

        `rows`, if given, is filled with "prediction", "label" and "loss" of every row, each (rows,)
        in the data set's order. `reference` is for tasks that score a model against another one;
        here the labels do that.
        """
        del reference
        logits, labels, loss = predict(model, self, data, split, device)
        if rows is not None:
            each = functional.cross_entropy(logits, labels, reduction="none")
            prediction = logits.argmax(dim=-1)
            rows |= in_rows(data, split, prediction=prediction, label=labels, loss=each)
        figures = {name: self.figure(name, logits, labels) for name in data.info.metrics}
        return {**figures, "loss": loss}

    def figure(self, name: str, logits: Tensor, labels: Tensor) -> float:
        """One metric of logits (rows, classes) and labels (rows,)."""
        metric = _metric(name, logits.shape[1])
        metric.update(logits.argmax(dim=-1), labels)
        return float(metric.compute())

    def workloads(
        self, data: Any, batch_sizes: tuple[int, ...] = (1, 32)
    ) -> dict[str, dict[str, Tensor]]:
        """name -> model inputs that speed is measured on."""
        return workloads(data, batch_sizes)


def _metric(name: str, classes: int) -> Metric:
    # every process sees the whole split: nothing to synchronise
    match name:
        case "accuracy":
            return MulticlassAccuracy(classes, average="micro", sync_on_compute=False)
        case "f1":  # of class 1, as GLUE reports it
            return BinaryF1Score(sync_on_compute=False)
        case "macro_f1":
            return MulticlassF1Score(classes, average="macro", sync_on_compute=False)
        case "matthews":
            return MulticlassMatthewsCorrCoef(classes, sync_on_compute=False)
    raise ValueError(f"no classification metric {name!r}")
