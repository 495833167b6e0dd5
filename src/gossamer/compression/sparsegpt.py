"""SparseGPT: prune each layer so that what is left makes up for what went, without any training.

Frantar, Alistarh: SparseGPT: massive language models can be accurately pruned in one-shot, ICML
2023 (arXiv:2301.00774). Each layer is a sparse regression: keep WX with fewer weights. Columns are
pruned from left to right by W² / [H⁻¹]², and the error of each is spread over the columns after it
(algorithm 1; `sparsity/obs.py`). Blocks are pruned in order, and each is fed what the pruned ones
before it make of the calibration rows (`models/calibration.py`).

What differs from the paper and its code: padding does not count as an input; a declared sparsity is
met to the weight; weights that an earlier method zeroed stay zero, and are made up for too; the
weights can be trained afterwards with the mask held.

One choice on each axis: score W² / [H⁻¹]²; N:M or unstructured; uniform over a layer's blocks of
columns; one-shot; no rewiring.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.models import calibration, sparse_body
from gossamer.models.verbs import HeldMasks
from gossamer.sparsity import masks
from gossamer.sparsity.obs import sparsegpt
from gossamer.sparsity.patterns import parse
from gossamer.sparsity.statistics import Hessian


class SparseGpt(HeldMasks):
    """Prune the body's linear layers with the Optimal Brain Surgeon's updates.

    Args:
        pattern: N:M, or unstructured: the same share of every block of columns.
        sparsity: share of the weights to drop, between 0 and 1. An N:M pattern fixes it: 1 - N/M.
        samples: rows (of text, or windows of tokens) of the training split to calibrate on.
        block: columns between two updates of the rest of a layer, and the columns that share an
            unstructured threshold.
        damping: share of the Hessian's mean diagonal that is added to its diagonal. Where that
            does not make it invertible it is raised tenfold, with a warning.
        roles: prune only layers of these roles; None: every linear layer of the body.
        recover: share of the steps that follow the pruning, with the masks held; those before it
            train the dense model on. 0: nothing is trained, and the steps stay unspent.
        lr: learning rate of the recovery; None: what the task or the trainer says.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights"})
    keeps = frozenset({"sparse weights"})  # `model.held` says which zeros the solver must leave

    def __init__(
        self,
        pattern: str = "2:4",
        sparsity: float = 0.5,
        samples: int = 128,
        block: int = 128,
        damping: float = 0.01,
        roles: tuple[str, ...] | None = None,
        recover: float = 0.0,
        lr: float | None = None,
    ) -> None:
        self.pattern = pattern
        self.sparsity = sparsity
        self.samples = samples
        self.block = block
        self.damping = damping
        self.roles = None if roles is None else tuple(roles)
        self.recover = recover
        self.lr = lr

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        problems = [
            *sparse_body.problems(model, self.pattern, self.sparsity, self.roles),
            *calibration.problems(self.pattern, self.samples, self.recover, data),
        ]
        if self.block < 1:
            problems.append(f"block={self.block}: columns, at least 1")
        if not 0 < self.damping < 1:
            problems.append(f"damping={self.damping}: a share between 0 and 1, e.g. 0.01")
        return problems

    def stages(self, training: list[Stage]) -> list[Stage]:
        return sparse_body.pruned_once(training, self.recover, self.lr)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name != "prune":
            return
        pattern, held = parse(self.pattern), getattr(model, "held", {})

        @torch.no_grad()
        def prune(path: str, layer: nn.Module, inputs: Hessian) -> None:
            weight, mask = sparsegpt(
                layer.weight,
                inputs.value(),
                pattern,
                self.sparsity,
                block=self.block,
                damping=self.damping,
                keep=held.get(path),
            )
            layer.weight.copy_(weight)
            masks.attach(layer, mask)

        yield from calibration.prune_blocks(
            model, batches, self.samples, self.roles, Hessian, prune, done
        )

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        layers, pattern = self.layers(loaded), parse(self.pattern)
        weights = {name: layer.weight for name, layer in layers.items()}
        if pattern.m:
            return [sparse_body.groups_are_sparse(pattern, weights)]
        keep = {name: self.keep(layer) for name, layer in layers.items()}
        return [sparse_body.layers_are_sparse(weights, keep)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        targets = {
            name: parse(self.pattern).density or self.keep(layer) / layer.weight.numel()
            for name, layer in self.layers(loaded).items()
        }
        return sparse_body.facts(loaded, self.pattern, targets)

    def keep(self, layer: nn.Module) -> int:
        """How many weights a layer keeps, unstructured."""
        total = layer.weight.numel()
        return total - round(self.sparsity * total)
