"""Wanda: drop the weights with the smallest |W|·‖X‖ of every output row, without any training.

Sun, Liu, Bair, Kolter: A simple and effective pruning approach for large language models, ICLR 2024
(arXiv:2306.11695). The score of a weight is its magnitude times the l2 norm of its input feature
over the calibration tokens (equation 1); weights are compared within their output row (section 3),
or within each group of M for N:M. Blocks are pruned in order, and each is fed what the pruned ones
before it make of the calibration rows (algorithm of section 3; `models/calibration.py`).

What differs from the paper: padding does not count as an input; the weights can be trained
afterwards with the mask held (section 5 of the paper fine-tunes too, with all weights).

One choice on each axis: score |W|·‖X‖; N:M or unstructured by rows; uniform; one-shot; no rewiring.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torch import nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.models import calibration, sparse_body
from gossamer.models.verbs import HeldMasks
from gossamer.sparsity import masks, scores
from gossamer.sparsity.patterns import keep_top_of_rows, parse
from gossamer.sparsity.statistics import InputNorm


class Wanda(HeldMasks):
    """Prune the body's linear layers by weights and activations.

    Args:
        pattern: N:M, or unstructured: the same share of every output row.
        sparsity: share of the weights to drop, between 0 and 1. An N:M pattern fixes it: 1 - N/M.
        samples: rows (of text, or windows of tokens) of the training split to calibrate on.
        roles: prune only layers of these roles; None: every linear layer of the body.
        recover: share of the steps that follow the pruning, with the masks held; those before it
            train the dense model on. 0: nothing is trained, and the steps stay unspent.
        lr: learning rate of the recovery; None: what the task or the trainer says.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights"})
    keeps = frozenset({"sparse weights"})  # no weight moves, and zeros have the lowest score

    def __init__(
        self,
        pattern: str = "2:4",
        sparsity: float = 0.5,
        samples: int = 128,
        roles: tuple[str, ...] | None = None,
        recover: float = 0.0,
        lr: float | None = None,
    ) -> None:
        self.pattern = pattern
        self.sparsity = sparsity
        self.samples = samples
        self.roles = None if roles is None else tuple(roles)
        self.recover = recover
        self.lr = lr

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        return [
            *sparse_body.problems(model, self.pattern, self.sparsity, self.roles),
            *calibration.problems(self.pattern, self.samples, self.recover, data),
        ]

    def stages(self, training: list[Stage]) -> list[Stage]:
        return sparse_body.pruned_once(training, self.recover, self.lr)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name == "prune":
            yield from calibration.prune_blocks(
                model, batches, self.samples, self.roles, InputNorm, self.prune, done
            )

    def prune(self, path: str, layer: nn.Module, inputs: InputNorm) -> None:
        """Mask one layer by what its inputs were."""
        pattern = parse(self.pattern)
        score = scores.wanda(layer.weight.float(), inputs.value())  # (out, in)
        if pattern.m:
            mask = pattern.mask(score, None)
        else:
            mask = keep_top_of_rows(score, self.keep(layer))
        masks.attach(layer, mask)
        masks.apply(layer)

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        layers, pattern = self.layers(loaded), parse(self.pattern)
        weights = {name: layer.weight for name, layer in layers.items()}
        if pattern.m:
            return [sparse_body.groups_are_sparse(pattern, weights)]
        keep = {name: self.keep(layer) for name, layer in layers.items()}
        return [sparse_body.rows_are_sparse(weights, keep)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        targets = {
            name: parse(self.pattern).density or self.keep(layer) / layer.weight.shape[1]
            for name, layer in self.layers(loaded).items()
        }
        return sparse_body.facts(loaded, self.pattern, targets)

    def keep(self, layer: nn.Module) -> int:
        """How many weights each row of a layer keeps, unstructured."""
        width = layer.weight.shape[1]
        return width - round(self.sparsity * width)
