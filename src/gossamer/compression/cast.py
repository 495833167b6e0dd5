"""CAST: train a dense model until it is N:M sparse by itself, then drop what has vanished.

Huang, Hu, Zhu, Chen: CAST: Continuous and differentiable semi-structured sparsity-aware training
for large language models, arXiv 2509.25996, 2025. The forward pass is dense and differentiable all
the time. Three parts (algorithm 2):

    AdamS       pulls the weights that a magnitude mask would drop to zero, harder as t nears T
                (`sparsity/adams.py`, algorithm 1)
    scaling     W is used as A ∘ W with one trained factor for each of n blocks of a row, which
                makes up for the magnitude that a row loses (`sparsity/scaling.py`, eq. 11 and 12)
    teacher     L = (1−η) CE + η KL(P_teacher ‖ P_student), the teacher being the dense start
                (`distillation.py`, eq. 13)

After T steps W ← W ∘ M with the mask of the final weights, and A is folded into W.

The teacher's logits are computed in every step, not kept: the tokens of a run are seen about once,
so a cache would be written, never read again, and 32,000 numbers for each token.

What the paper leaves open, and what is done here: the mask is of the raw |W|, without A; the blocks
of A are consecutive inputs; embeddings, norms, head, biases and A get plain Adam at the same
learning rate; β = (0.9, 0.95), ε and no weight decay as in the code of the predecessor, AST. If the
task trains in several stages, α runs from 0 to 1 in each of them, for each has its own optimizer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Output, Stage, Teacher
from gossamer.distillation import kl
from gossamer.models import sparse_body
from gossamer.models.parts import body_linears
from gossamer.models.surgery import replace_module
from gossamer.models.verbs import retrained
from gossamer.sparsity import masks, scores
from gossamer.sparsity.adams import AdamS
from gossamer.sparsity.patterns import parse
from gossamer.sparsity.scaling import ScaledLinear
from gossamer.sparsity.shrinkage import shrinkage


class Cast(contract.Method):
    """Continuous training to N:M.

    Args:
        pattern: N:M along the input features.
        decay: λ; None: the root mean square of the first step's gradients, measured and recorded.
            The paper's rule is "of the order of the gradient"; its 4e-7 is for LLaMA-2-7B.
        refresh: T1, steps between two masks.
        scales: n, the blocks of a row with a factor of their own; 0: no A.
        distill: η, the teacher's share of the loss; 0: no teacher.
        temperature: of both models' distributions in the teacher's term.
        betas, eps, weight_decay: of AdamS and, weight decay on A aside, of the Adam beside it.
        lr: learning rate; None: the trainer's. One of AdamS, see docs/methods/cast.md.
        roles: make the layers of these roles sparse; None: every linear layer of the body.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights"})
    keeps: frozenset[str] = frozenset()  # its target is met from dense weights only

    def __init__(
        self,
        pattern: str = "2:4",
        decay: float | None = 4e-7,
        refresh: int = 10,
        scales: int = 2,
        distill: float = 0.3333333333333333,
        temperature: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        lr: float | None = None,
        roles: tuple[str, ...] | None = None,
    ) -> None:
        self.pattern = pattern
        self.decay = decay
        self.refresh = refresh
        self.scales = scales
        self.distill = distill
        self.temperature = temperature
        self.betas = tuple(betas)
        self.eps = eps
        self.weight_decay = weight_decay
        self.lr = lr
        self.roles = None if roles is None else tuple(roles)

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        problems = sparse_body.n_of_m_problems(model, self.pattern, self.roles)
        if self.decay is not None and self.decay < 0:
            problems.append(f"decay={self.decay}: from 0, e.g. 4.0e-7; null: measured")
        if self.refresh < 1:
            problems.append(f"refresh={self.refresh}: a number of steps, from 1, e.g. 10")
        if not 0 <= self.distill <= 1:
            problems.append(f"distill={self.distill}: a share of the loss, from 0 to 1, e.g. 0.33")
        if self.temperature <= 0:
            problems.append(f"temperature={self.temperature}: greater than 0, e.g. 1.0")
        if self.scales < 0:
            problems.append(f"scales={self.scales}: blocks of a row, e.g. 2; 0: no scales")
        if problems:
            return problems
        for path, layer in self.layers(model).items():
            if layer.weight.dtype not in (torch.float32, torch.float64):
                problems.append(
                    f"{path} is in {layer.weight.dtype}, in which steps of AdamS are lost; load "
                    "the model in float32 and set trainer.precision=bf16-mixed"
                )
            width, m = layer.weight.shape[1], parse(self.pattern).m
            if self.scales and width % (self.scales * m):
                problems.append(
                    f"scales={self.scales}: {path} has {width} input features, which do not divide "
                    f"into {self.scales} blocks of whole groups of {m}; set scales=1 or 0"
                )
        return problems

    def stages(self, training: list[Stage]) -> list[Stage]:
        shrink = retrained(training, self.lr, teacher=self.distill > 0)
        return [*shrink, Stage("prune", share=0.0)]

    def prepare(self, model: nn.Module) -> None:
        """Scales of 1, and masks of the final weights, which are all True until they are made."""
        if self.scales:
            for path, linear in self.layers(model).items():
                replace_module(model, path, ScaledLinear(linear, self.scales))
        for layer in self.layers(model).values():
            masks.attach(layer)

    def enter(self, stage: Stage, model: nn.Module) -> None:
        """Everything trains. `optimizer` sees names only: which of them are in Θ."""
        self.sparse = {f"{path}.weight" for path in self.layers(model)}

    def optimizer(self, named: list[tuple[str, nn.Parameter]], stage: Stage) -> AdamS:
        scales = {name.removesuffix("weight") + "scale" for name in self.sparse}
        theta = [p for name, p in named if name in self.sparse]
        factors = [p for name, p in named if name in scales]
        rest = [p for name, p in named if name not in self.sparse | scales]
        groups: list[dict[str, Any]] = [
            {"params": theta, "sparse": True},
            {"params": rest},
            {"params": factors, "weight_decay": 0.0},
        ]
        return AdamS(
            [group for group in groups if group["params"]],
            lr=stage.lr,
            total_steps=stage.steps,
            decay=self.decay,
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
        hard = task.losses(model, task, batch, output, teacher)["task"]
        soft = kl(output["logits"], teacher(batch)["logits"], self.temperature)
        return {"task": (1 - self.distill) * hard, "kl": self.distill * soft}

    def monitors(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """λ; mask bits that the last refresh changed, their share, and how many changed since the
        stage began; what the masked weights, without A, still weigh (`sparsity/shrinkage.py`)."""
        assert isinstance(optimizer, AdamS)
        (group,) = [group for group in optimizer.param_groups if group["sparse"]]
        flips = float(group["flips"])
        return {
            "decay": group["decay"],
            "flips": flips,
            "flip_share": flips / sum(p.numel() for p in group["params"]),
            "flips_so_far": float(group["flips_so_far"]),
            **shrinkage(optimizer.masked()),
        }

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name == "prune":
            for path, layer in self.layers(model).items():
                if path not in done:
                    score = scores.magnitude(layer.weight)
                    masks.attach(layer, parse(self.pattern).mask(score, None))
                    masks.apply(layer)
                    yield path

    def finalize(self, model: nn.Module) -> None:
        """Fold A into W."""
        for path, layer in self.layers(model).items():
            masks.remove(layer)
            if isinstance(layer, ScaledLinear):
                replace_module(model, path, layer.folded())

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        weights = {path: layer.weight for path, layer in self.layers(loaded).items()}
        return [sparse_body.groups_are_sparse(parse(self.pattern), weights)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        targets = dict.fromkeys(self.layers(loaded), parse(self.pattern).density)
        return sparse_body.facts(loaded, self.pattern, targets)

    def layers(self, model: nn.Module) -> dict[str, nn.Module]:
        """The layers that become sparse, by path, in execution order."""
        return body_linears(model, self.roles)
