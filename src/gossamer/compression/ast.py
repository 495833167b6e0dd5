"""AST: straight-through training to N:M with a decay that sets in slowly, and a dense teacher.

Huang, Zhang, Zheng, Chen: Pruning large language models with semi-structural adaptive sparse
training, AAAI 2025 (code: thu-ml/Adaptive-Sparse-Trainer). It is SR-STE with four changes:

    the mask is made again every ten steps, not in every step;
    λ rises linearly and then stays, λ(t) = λ min(t / t_ramp, 1);
    λ(t) (1 − M) ∘ W joins the gradient after clipping, in the optimizer (`sparsity/decayed.py`);
    L = CE + κ T² KL(P_teacher ‖ P_student), the teacher being the dense start.

Defaults are those of the code for LLaMA-2-7B: λ = 6e-5 after 3000 of 15,000 steps, κ = 0.5, T = 2.

What is left out: SLoRB, the branch y += Z (P x) beside every layer, which the paper's "boosted"
model keeps at inference. What differs: the released optimizer for GPT-2 lets the decay reach kept
weights too, with the opposite sign (~ of an integer mask); here, as in its code for LLaMA, it does
not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Output, Stage, Teacher
from gossamer.distillation import kl
from gossamer.models import sparse_body
from gossamer.models.surgery import replace_module
from gossamer.models.verbs import StraightThrough, retrained
from gossamer.sparsity.decayed import DecayedAdamW
from gossamer.sparsity.patterns import parse
from gossamer.sparsity.straight_through import StraightThroughLinear, figures


class Ast(StraightThrough):
    """Adaptive sparse training.

    Args:
        pattern: N:M along the input features.
        decay: λ after the ramp. ramp: share of a stage's steps in which it rises from 0.
        refresh: steps between two masks.
        distill: κ, the weight of the teacher's term beside the task's; 0: no teacher.
        temperature: T of that term.
        betas, eps, weight_decay: of AdamW.
        lr: learning rate; None: the trainer's.
        roles: make the layers of these roles sparse; None: every linear layer of the body.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights"})
    keeps: frozenset[str] = frozenset()  # the dense weights under the mask are all trained

    def __init__(
        self,
        pattern: str = "2:4",
        decay: float = 6e-5,
        ramp: float = 0.2,
        refresh: int = 10,
        distill: float = 0.5,
        temperature: float = 2.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        lr: float | None = None,
        roles: tuple[str, ...] | None = None,
    ) -> None:
        self.pattern = pattern
        self.decay = decay
        self.ramp = ramp
        self.refresh = refresh
        self.distill = distill
        self.temperature = temperature
        self.betas = tuple(betas)
        self.eps = eps
        self.weight_decay = weight_decay
        self.lr = lr
        self.roles = None if roles is None else tuple(roles)

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        problems = sparse_body.n_of_m_problems(model, self.pattern, self.roles)
        if self.decay < 0:
            problems.append(f"decay={self.decay}: from 0, e.g. 6.0e-5")
        if not 0 <= self.ramp <= 1:
            problems.append(f"ramp={self.ramp}: a share of the steps, from 0 to 1, e.g. 0.2")
        if self.refresh < 1:
            problems.append(f"refresh={self.refresh}: a number of steps, from 1, e.g. 10")
        if self.distill < 0:
            problems.append(f"distill={self.distill}: from 0, e.g. 0.5")
        if self.temperature <= 0:
            problems.append(f"temperature={self.temperature}: greater than 0, e.g. 2.0")
        return problems

    def stages(self, training: list[Stage]) -> list[Stage]:
        masked = retrained(training, self.lr, teacher=self.distill > 0)
        return [Stage("mask", share=0.0), *masked, Stage("prune", share=0.0)]

    def prepare(self, model: nn.Module) -> None:
        for path, linear in self.layers(model).items():
            replace_module(model, path, StraightThroughLinear(linear, parse(self.pattern)))

    def enter(self, stage: Stage, model: nn.Module) -> None:
        """Everything trains. `optimizer` sees names only: which of them are masked."""
        self.sparse = {f"{path}.weight" for path in self.layers(model)}

    def optimizer(self, named: list[tuple[str, nn.Parameter]], stage: Stage) -> DecayedAdamW:
        groups = [
            {"params": [p for name, p in named if name in self.sparse], "sparse": True},
            {"params": [p for name, p in named if name not in self.sparse]},
        ]
        assert stage.lr is not None
        return DecayedAdamW(
            [group for group in groups if group["params"]],
            lr=stage.lr,
            decay=self.decay,
            ramp=round(self.ramp * stage.steps),
            pattern=self.pattern,
            refresh=self.refresh,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )

    def losses(
        self, model: nn.Module, task: Any, batch: Batch, output: Output, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        if teacher is None or not self.distill:
            return {}
        term = kl(output["logits"], teacher(batch)["logits"], self.temperature)
        return {"kl": self.distill * term}

    def monitors(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        assert isinstance(optimizer, DecayedAdamW)
        done = optimizer.param_groups[0]["done"]
        rate = optimizer.rate(done - 1)
        return {"decay": rate, **figures(self.layers(model).values())}

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        weights = {path: layer.weight for path, layer in self.layers(loaded).items()}
        return [sparse_body.groups_are_sparse(parse(self.pattern), weights)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        targets = dict.fromkeys(self.layers(loaded), parse(self.pattern).density)
        return sparse_body.facts(loaded, self.pattern, targets)
