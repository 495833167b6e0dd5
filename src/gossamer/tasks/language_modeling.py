"""Language modelling: the next token's cross-entropy, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.contract import Batch, Output, Teacher
from gossamer.data.info import DataInfo, SplitName
from gossamer.data.packing import IGNORED
from gossamer.models import streaming
from gossamer.tasks.evaluation import in_rows, inference, inputs_of, metric_problems


class LanguageModeling:
    """The probability of each token given those before it in its window.

    Perplexity is exp of the mean loss per scored token, at the data set's context and stride; it
    depends on the tokenizer. Bits per byte does not: the loss in bits times tokens per byte.

    Args:
        metric: the primary metric, one of the data set's or "loss"; None: the data set's first.
    """

    accepts = frozenset({"language"})

    def __init__(self, metric: str | None = None) -> None:
        self.metric = metric

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        """Problems, one line each, of this task with this data."""
        del model
        return metric_problems(self.metric, data.info.metrics, data.info.name)

    def primary(self, info: DataInfo) -> tuple[str, Literal["max", "min"]]:
        """The metric that models are compared by, and which way is better."""
        return self.metric or info.metrics[0], "min"

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """{"logits": (B, T, V)}. A model with `stream` stays where it is, but for one block at a
        time, which is on the batch's device."""
        if getattr(model, "stream", False):
            (output,) = streaming.outputs(model, [batch], batch["input_ids"].device)
            return {"logits": output.logits}
        return {"logits": model(**inputs_of(batch), use_cache=False).logits}

    def loss(self, batch: Batch, output: Output) -> Tensor:
        """Mean cross-entropy of the scored tokens, in nats: a scalar, float32."""
        return _nats(output["logits"], batch["labels"], "mean")

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
        """The data set's metrics and "loss" (nats per scored token) on a split.

        `rows`, if given, is filled with "loss" and "tokens" (how many were scored) of every window,
        each (windows,) in the text's order."""
        del reference
        total, tokens = [], []
        with inference(model):
            for batch, logits in self._predicted(model, data.batches(split), device):
                scored = batch["labels"][:, 1:] != IGNORED
                nats = _nats(logits, batch["labels"], "none").view(scored.shape)
                total.append(nats.double().sum(1).cpu())
                tokens.append(scored.sum(1).cpu())
        nats, counts = torch.cat(total), torch.cat(tokens)
        if rows is not None:
            mean = (nats / counts.clamp(min=1)).float()
            rows |= in_rows(data, split, loss=mean, tokens=counts)
        loss = float(nats.sum() / counts.sum())
        figures = {
            "perplexity": math.exp(min(loss, 700.0)),  # of a broken model: large, not infinite
            "bits_per_byte": loss / math.log(2) * data.tokens(split) / data.bytes(split),
        }
        return {**{name: figures[name] for name in data.info.metrics}, "loss": loss}

    def _predicted(
        self, model: nn.Module, batches: Any, device: str | torch.device
    ) -> Iterator[tuple[Batch, Tensor]]:
        """(batch, logits (B, T, V)), on `device`."""
        streamed: Iterator[Any] | None = None
        if getattr(model, "stream", False):  # all batches through one block, then the next
            batches = list(batches)
            streamed = streaming.outputs(model, batches, device)
        for batch in batches:
            batch = {name: value.to(device) for name, value in batch.items()}
            yield batch, next(streamed).logits if streamed else self.forward(model, batch)["logits"]

    def workloads(
        self, data: Any, batch_sizes: tuple[int, ...] = (1, 8)
    ) -> dict[str, dict[str, Tensor]]:
        """name -> model inputs that speed is measured on: reading whole windows (prefill)."""
        tokens = data.info.max_length
        return {
            f"batch {size}, {tokens} tokens": inputs_of(data.sample(size)) for size in batch_sizes
        }


def _nats(logits: Tensor, labels: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
    """Cross-entropy of logits (B, T, V) for the tokens after them, labels (B, T): the mean of those
    that are scored, or (B · (T - 1),) with 0 where a token is not."""
    return functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1),
        labels[:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction=reduction,
    )
