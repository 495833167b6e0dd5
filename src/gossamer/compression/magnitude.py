"""Magnitude pruning: drop the weights that are smallest in absolute value, then train on.

Han, Pool, Tran, Dally: Learning both weights and connections for efficient neural networks, NeurIPS
2015: train, prune by |W|, retrain what is left (figure 2). Zhu, Gupta: To prune, or not to prune,
2017, use the same score along a schedule.

What differs from the papers: the threshold is an exact count instead of a multiple of a layer's
standard deviation (Han et al., section 3.1), so that a declared sparsity is met to the weight;
dropping happens once, not along a schedule; dropout is left as it is (section 3.2 lowers it).

One choice on each axis: score |W|; any pattern; global, uniform or ERK distribution; one-shot; no
rewiring.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.models import sparse_body
from gossamer.models.verbs import HeldMasks
from gossamer.sparsity import distributions, masks, scores
from gossamer.sparsity.patterns import Pattern, parse

DISTRIBUTIONS: dict[str, distributions.Distribution] = {
    "global": distributions.over_group,
    "uniform": distributions.uniform,
    "erk": distributions.erk,
}
THRESHOLD = "threshold"  # the one unit of the stage: all layers are pruned by one decision


class Magnitude(HeldMasks):
    """One-shot magnitude pruning of the body's linear layers.

    Args:
        sparsity: share of the weights to drop, between 0 and 1. An N:M pattern fixes it: 1 - N/M.
        pattern: unstructured, N:M, block:RxC, row or column (`sparsity/patterns.py`).
        distribution: how layers share the sparsity; without a part in N:M, where all are equal.
        roles: prune only layers of these roles; None: every linear layer of the body.
        recover: share of the steps that follow the pruning. Those before it train the dense model
            on, so that every value spends the same steps; 0: nothing is trained after the pruning.
        lr: learning rate of the recovery; None: what the task or the trainer says.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights"})
    keeps = frozenset({"sparse weights"})  # zeros have the lowest score, and the engine holds them

    def __init__(
        self,
        sparsity: float = 0.5,
        pattern: str = "unstructured",
        distribution: Literal["global", "uniform", "erk"] = "global",
        roles: tuple[str, ...] | None = None,
        recover: float = 1.0,
        lr: float | None = None,
    ) -> None:
        self.sparsity = sparsity
        self.pattern = pattern
        self.distribution = distribution
        self.roles = None if roles is None else tuple(roles)
        self.recover = recover
        self.lr = lr

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        problems = sparse_body.problems(model, self.pattern, self.sparsity, self.roles)
        if not 0 <= self.recover <= 1:
            problems.append(f"recover={self.recover}: a share of the steps, from 0 to 1")
        if self.distribution not in DISTRIBUTIONS:
            problems.append(f"distribution={self.distribution}: choose {', '.join(DISTRIBUTIONS)}")
        elif self.distribution == "erk" and ":" in self.pattern and not problems:
            problems.append(
                f"distribution=erk: pattern {self.pattern} fixes every layer's; set uniform"
            )
        return problems

    def stages(self, training: list[Stage]) -> list[Stage]:
        dense = [replace(stage, share=stage.share * (1 - self.recover)) for stage in training]
        recovery = [
            replace(
                stage,
                share=stage.share * self.recover,
                lr=stage.lr if self.lr is None else self.lr,
            )
            for stage in training
        ]
        if self.recover == 1:
            return [Stage("prune", share=0.0), *recovery]
        trained = [stage for stage in recovery if stage.share]  # one-shot stages were before
        return [*dense, Stage("prune", share=0.0), *trained]

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name != "prune" or THRESHOLD in done:
            return
        layers = self.layers(model)
        keep = self.keep({name: layer.weight for name, layer in layers.items()})
        for name, layer in layers.items():
            score = scores.magnitude(layer.weight)
            masks.attach(layer, parse(self.pattern).mask(score, keep[name]))
            masks.apply(layer)
        yield THRESHOLD

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        pattern = parse(self.pattern)
        weights = {name: layer.weight for name, layer in self.layers(loaded).items()}
        if pattern.m:
            return [sparse_body.groups_are_sparse(pattern, weights)]
        alive = {name: _alive(pattern, weight) for name, weight in weights.items()}
        if self.distribution == "global":
            return [_budget_is_met(pattern, weights, alive, self.sparsity)]
        keep = self.keep(weights)
        dense = [name for name in weights if alive[name] > (keep[name] or 0)]
        figure = f"{len(weights) - len(dense)} of {len(weights)} layers" + "".join(
            f"; {name} keeps {alive[name]:,} units, not {keep[name]:,}" for name in dense[:1]
        )
        return [Check(f"{self.distribution} sparsity {self.sparsity:.4g}", not dense, figure)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        layers = self.layers(loaded)
        targets = self.targets({name: layer.weight for name, layer in layers.items()})
        return sparse_body.facts(loaded, self.pattern, targets)

    def keep(self, weights: Mapping[str, Tensor]) -> dict[str, int | None]:
        """How many units of each weight are kept; None where the pattern itself says so."""
        pattern = parse(self.pattern)
        if pattern.m:
            return dict.fromkeys(weights)
        score = {name: scores.magnitude(weight) for name, weight in weights.items()}
        return {**DISTRIBUTIONS[self.distribution](score, pattern, self.sparsity)}

    def targets(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """The density declared for each weight. A global threshold declares one for the group,
        which its layers meet together."""
        pattern = parse(self.pattern)
        if self.distribution == "global" or pattern.m:
            return dict.fromkeys(weights, pattern.density or 1 - self.sparsity)
        units = {name: pattern.units(tuple(weight.shape)) for name, weight in weights.items()}
        return {name: (count or 0) / units[name] for name, count in self.keep(weights).items()}


def _alive(pattern: Pattern, weight: Tensor) -> int:
    """The units of a weight that are not zero throughout."""
    return int(torch.count_nonzero(pattern.unit_scores(scores.magnitude(weight))))


def _budget_is_met(
    pattern: Pattern, weights: Mapping[str, Tensor], alive: Mapping[str, int], sparsity: float
) -> Check:
    """Exact where all units have the same size, else to half of the largest unit."""
    size = {name: pattern.unit_size(tuple(weight.shape)) for name, weight in weights.items()}
    total = sum(weight.numel() for weight in weights.values())
    kept = sum(alive[name] * size[name] for name in weights)
    budget = total - min(round(sparsity * total), sparsity * total)  # of two as near, either
    figure = f"{total - kept:,} of {total:,} weights dropped ({1 - kept / total:.2%})"
    met = kept <= budget + max(size.values()) / 2
    return Check(f"global sparsity {sparsity:.4g}", met, figure)
