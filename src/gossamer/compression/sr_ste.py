"""SR-STE: train through a mask, with a straight-through gradient that is pulled towards the mask.

Zhou, Ma, Zhu, Liu, Zhang, Yuan, Sun, Li: Learning N:M fine-grained structured sparse neural
networks from scratch, ICLR 2021. The forward pass uses M ∘ W; the dense W gets the gradient of the
masked weight and λ (1 − M) ∘ W beside it, so that what was dropped shrinks and masks settle
(equation 9, `sparsity/straight_through.py`). λ = 0 is plain STE.

What differs from the paper: training starts from a trained model, where the paper starts from
scratch as well; the optimizer is the trainer's AdamW, where the paper uses SGD; `unstructured`
masks, as many weights of every layer, are the same rule with another pattern.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gossamer import contract
from gossamer.contract import Check, Fact, Stage
from gossamer.models import sparse_body
from gossamer.models.surgery import replace_module
from gossamer.models.verbs import StraightThrough, retrained
from gossamer.sparsity.patterns import parse
from gossamer.sparsity.straight_through import StraightThroughLinear, figures


class SrSte(StraightThrough):
    """Sparse-refined straight-through training.

    Args:
        pattern: N:M along the input features, or unstructured.
        sparsity: share of each layer's weights to drop; None: what N:M says.
        decay: λ, added to the gradient (before it is clipped); 0: STE.
        refresh: steps between two masks.
        lr: learning rate; None: the trainer's.
        roles: make the layers of these roles sparse; None: every linear layer of the body.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights"})
    keeps: frozenset[str] = frozenset()  # the dense weights under the mask are all trained

    def __init__(
        self,
        pattern: str = "2:4",
        sparsity: float | None = None,
        decay: float = 2e-4,
        refresh: int = 1,
        lr: float | None = None,
        roles: tuple[str, ...] | None = None,
    ) -> None:
        self.pattern = pattern
        self.sparsity = sparsity
        self.decay = decay
        self.refresh = refresh
        self.lr = lr
        self.roles = None if roles is None else tuple(roles)

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        problems = []
        if ":" in self.pattern and "block" not in self.pattern:
            problems += sparse_body.n_of_m_problems(model, self.pattern, self.roles)
            if not problems and self.sparsity not in (None, 1 - (parse(self.pattern).density or 0)):
                problems.append(f"sparsity={self.sparsity}: pattern {self.pattern} fixes it; null")
        elif self.pattern != "unstructured":
            problems.append(f"pattern={self.pattern}: choose N:M, in quotes, or unstructured")
        elif self.sparsity is None:
            problems.append("sparsity=null: unstructured masks need one, e.g. 0.5")
        else:
            problems += sparse_body.problems(model, self.pattern, self.sparsity, self.roles)
        if self.decay < 0:
            problems.append(f"decay={self.decay}: from 0, e.g. 2.0e-4")
        if self.refresh < 1:
            problems.append(f"refresh={self.refresh}: a number of steps, from 1")
        return problems

    def stages(self, training: list[Stage]) -> list[Stage]:
        masked = retrained(training, self.lr)
        return [Stage("mask", share=0.0), *masked, Stage("prune", share=0.0)]

    def prepare(self, model: nn.Module) -> None:
        for path, linear in self.layers(model).items():
            keep = self.keep(linear.weight.numel())
            layer = StraightThroughLinear(linear, parse(self.pattern), keep, self.decay)
            replace_module(model, path, layer)

    def monitors(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        return figures(self.layers(model).values())

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        weights = {path: layer.weight for path, layer in self.layers(loaded).items()}
        if (pattern := parse(self.pattern)).m:
            return [sparse_body.groups_are_sparse(pattern, weights)]
        keep = {path: self.keep(weight.numel()) or 0 for path, weight in weights.items()}
        return [sparse_body.layers_are_sparse(weights, keep)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        density = parse(self.pattern).density or 1 - (self.sparsity or 0)
        targets = dict.fromkeys(self.layers(loaded), density)
        return sparse_body.facts(loaded, self.pattern, targets)

    def keep(self, count: int) -> int | None:
        """How many of a layer's `count` weights stay; None where the pattern says so."""
        return None if self.sparsity is None else count - round(self.sparsity * count)
