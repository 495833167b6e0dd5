"""Image classification: cross-entropy against classes or mixed targets; accuracy, calibration."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from gossamer.contract import Batch, Output
from gossamer.data.info import DataInfo
from gossamer.tasks.classification import Classification
from gossamer.tasks.evaluation import inputs_of, workloads

BINS = 15  # of confidence, from 0 to 1, for the calibration error (Guo et al. 2017)


class ImageClassification(Classification):
    """One class per picture. Metrics: "accuracy" (top 1), "top5", and "ece", the expected
    calibration error (Guo et al. 2017, arXiv:1706.04599) in 15 bins of equal width: the mean
    difference between a bin's confidence and its accuracy, weighted by its rows.

    Args:
        metric: the primary metric, one of the data set's or "loss"; None: the data set's first.
    """

    accepts = frozenset({"image"})

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """{"logits": (B, classes)}, of a model that returns them or an object that has them."""
        output = model(**inputs_of(batch))
        return {"logits": getattr(output, "logits", output)}

    def loss(self, batch: Batch, output: Output) -> Tensor:
        """Mean cross-entropy of the batch, in nats, against "targets" (B, classes) where the batch
        has them (mixed or smoothed labels, in training), else against "labels": a scalar,
        float32."""
        answer = batch["targets"] if "targets" in batch else batch["labels"]
        return functional.cross_entropy(output["logits"].float(), answer)

    def primary(self, info: DataInfo) -> tuple[str, Literal["max", "min"]]:
        name, direction = super().primary(info)
        return name, "min" if name == "ece" else direction

    def figure(self, name: str, logits: Tensor, labels: Tensor) -> float:
        classes = logits.shape[1]
        match name:
            case "top5":
                metric = MulticlassAccuracy(
                    classes, top_k=5, average="micro", sync_on_compute=False
                )
                metric.update(logits, labels)
                return float(metric.compute())
            case "ece":
                error = MulticlassCalibrationError(
                    classes, n_bins=BINS, norm="l1", sync_on_compute=False
                )
                error.update(logits.softmax(dim=-1), labels)
                return float(error.compute())
        return super().figure(name, logits, labels)

    def workloads(
        self, data: Any, batch_sizes: tuple[int, ...] = (1, 8, 32)
    ) -> dict[str, dict[str, Tensor]]:
        """name -> model inputs that speed is measured on."""
        return workloads(data, batch_sizes)
