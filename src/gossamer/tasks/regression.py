"""Regression: one score per row, squared error, correlations."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanSquaredError, Metric
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef

from gossamer.contract import Batch, Output, Teacher
from gossamer.data.info import DataInfo, SplitName
from gossamer.tasks.evaluation import in_rows, inputs_of, metric_problems, predict, workloads


class Regression:
    """One score per row.

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
        if info.classes is not None:
            return [
                f"task=regression: {info.name} has classes, no scores; type task=classification"
            ]
        return metric_problems(self.metric, info.metrics, info.name)

    def primary(self, info: DataInfo) -> tuple[str, Literal["max", "min"]]:
        """The metric that models are compared by, and which way is better."""
        name = self.metric or info.metrics[0]
        return name, "min" if name in ("mse", "loss") else "max"

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """{"logits": (B, 1)}"""
        return {"logits": model(**inputs_of(batch)).logits}

    def loss(self, batch: Batch, output: Output) -> Tensor:
        """Mean squared error of the batch, in squared units of the score: a scalar."""
        return functional.mse_loss(output["logits"].float().squeeze(-1), batch["labels"])

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
        """The data set's metrics and "loss" on a split.

        A correlation with predictions (or labels) that are all the same is undefined; it counts as
        0, as Matthews' does: a model that learned nothing has a figure, not a hole in the record.
        `rows`, if given, is filled with "prediction", "label" and "loss" of every row, each (rows,)
        in the data set's order. `reference` is for tasks that score a model against another one;
        here the labels do that.
        """
        del reference
        logits, labels, loss = predict(model, self, data, split, device)
        scores = logits.squeeze(-1)
        if rows is not None:
            each = (scores - labels) ** 2
            rows |= in_rows(data, split, prediction=scores, label=labels, loss=each)
        constant = scores.min() == scores.max() or labels.min() == labels.max()
        figures = {}
        for name in data.info.metrics:
            metric = _metric(name)
            if constant and name in ("pearson", "spearman"):
                figures[name] = 0.0
                continue
            metric.update(scores, labels)
            figures[name] = float(metric.compute())
        return {**figures, "loss": loss}

    def workloads(
        self, data: Any, batch_sizes: tuple[int, ...] = (1, 32)
    ) -> dict[str, dict[str, Tensor]]:
        """name -> model inputs that speed is measured on."""
        return workloads(data, batch_sizes)


def _metric(name: str) -> Metric:
    # every process sees the whole split: nothing to synchronise
    match name:
        case "pearson":
            return PearsonCorrCoef(sync_on_compute=False)
        case "spearman":
            with warnings.catch_warnings():  # that it keeps all predictions, which are few
                warnings.simplefilter("ignore", UserWarning)
                return SpearmanCorrCoef(sync_on_compute=False)
        case "mse":
            return MeanSquaredError(sync_on_compute=False)
    raise ValueError(f"no regression metric {name!r}")
