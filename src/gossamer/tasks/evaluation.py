"""What every evaluation shares: eval mode, no gradient, one pass, the model as it was before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.contract import ANSWERS
from gossamer.data.info import SplitName
from gossamer.models.inference import inference


def predict(
    model: nn.Module, task: Any, data: Any, split: SplitName, device: str | torch.device
) -> tuple[Tensor, Tensor, float]:
    """One pass over a split: (logits (rows, outputs) float32, labels (rows)) on the CPU, and the
    mean loss per row, whatever rows fall into a batch together. The model is on `device`."""
    logits, labels, total = [], [], 0.0
    with inference(model):
        for batch in data.batches(split):
            batch = data.on_device({name: value.to(device) for name, value in batch.items()})
            output = task.forward(model, batch)
            total += float(task.loss(batch, output)) * len(batch["labels"])
            logits.append(output["logits"].float().cpu())
            labels.append(batch["labels"].cpu())
    rows = torch.cat(labels)
    return torch.cat(logits), rows, total / len(rows)


def in_rows(data: Any, split: SplitName, **values: Tensor) -> dict[str, Tensor]:
    """Values that came in the order of `data.batches(split)`, (rows, …), in the data set's own
    order: what a test that pairs two models row by row needs, whatever their tokenizers."""
    place = torch.argsort(data.order(split))
    return {name: value[place].contiguous() for name, value in values.items()}


def inputs_of(batch: Any) -> dict[str, Tensor]:
    """What the model sees of a batch: all but the answers."""
    return {name: value for name, value in batch.items() if name not in ANSWERS}


def workloads(data: Any, batch_sizes: tuple[int, ...]) -> dict[str, dict[str, Tensor]]:
    """name -> model inputs that speed and compute are measured on: real rows of the training split,
    padded to the data set's max_length."""
    return {f"batch {size}": inputs_of(data.sample(size)) for size in batch_sizes}


def metric_problems(metric: str | None, offered: tuple[str, ...], name: str) -> list[str]:
    """A line if `metric` is none of the data set's."""
    if metric is None or metric in (*offered, "loss"):
        return []
    return [f"task.metric={metric}: {name} has {', '.join((*offered, 'loss'))}"]
