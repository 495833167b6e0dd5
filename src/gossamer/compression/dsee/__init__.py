"""DSEE: dually sparsity-embedded efficient tuning.

Chen, Chen, Chen, Gan, Li, Wang, Awadallah: DSEE: Dually Sparsity-embedded Efficient Tuning of
Pre-trained Language Models, ACL 2023 (arXiv 2111.00160). Sparsity in two places: the update of a
frozen pre-trained W is low rank plus a few free entries, and W itself is masked,

    y = (M ⊙ W) x + b + s · [U (V x) + S2 x]     eq. (1);  s = α/r, S2 non-zero on Ω only, |Ω| = N,

with Ω from a decomposition of W, eq. (2). Four stages: find Ω, tune, prune once, recover.

    support.py      Ω: GreBsmo, top-|W| or random
    adapter.py      eq. (1) in training, merged, and with side branches
    pruning.py      M: two global groups, scored by |W| and by the update
    structured.py   heads and neurons: gates, update scores, removal
    proof.py        the ledger and what must be true of the exported files

What differs from the released code, and why, is in docs/methods/dsee.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gossamer import contract
from gossamer.compression.dsee import proof, structured
from gossamer.compression.dsee.adapter import AdaptedLinear, SideBranchLinear, deployed
from gossamer.compression.dsee.pruning import prune_weights
from gossamer.compression.dsee.requirements import problems
from gossamer.compression.dsee.support import find_support
from gossamer.contract import Batch, Check, Fact, Output, Stage, Teacher
from gossamer.models.parts import body_linears, parts_of
from gossamer.models.surgery import replace_module
from gossamer.sparsity import masks

__all__ = ["DSEE", "AdaptedLinear", "SideBranchLinear"]

V_STD = 0.02  # V ~ N(0, 0.02²), U = 0, S2 = 0: the update starts at zero
STRUCTURE, WEIGHTS = "structure", "weights"  # the units of the stage "prune"


class DSEE(contract.Method):
    """The parameter-efficient update UV + S2 of a frozen encoder that is pruned once.

    Args:
        rank: r of U (out, r) and V (r, in); also the rank of U'V' in eq. (2).
        alpha: α of the scale s = α/r, which multiplies UV and S2 alike.
        residual: N, the non-zeros of S2, in each adapted matrix.
        support: where they are: "grebsmo", the largest entries of S' in eq. (2); the largest |W|
            ("magnitude"); or "random".
        roles: the layers that get an update. sparsity: share of zeros in W over all body layers
        without an update, scored by |W|. update_sparsity: the same over the layers with one, scored
        by `score`; None: as `sparsity`. score: "update", |ΔW| (the paper's); "weight", |W|;
        "merged", |W + ΔW|; or "random". heads: share of the attention heads to remove from every
        block. neurons: share of the feed-forward neurons to remove over all blocks together.
        structure_score: "update", Σ |ΔW| over the unit's rows (Σ |W| where no layer has an update,
        so
            for neurons unless "up" is in `roles`); "weight", Σ |W|; "random"; or "gates", the
            magnitude of gates trained with an ℓ1 penalty while tuning.
        gate_l1: λ of that penalty, λ Σ |c|.
        tune: share of the steps before pruning; the rest recovers. 1: no recovery.
        lr: learning rate of tuning and recovery.
        deploy: "merged", W' = M ⊙ W + ΔW, whose zeros ΔW fills in; "side_branch" keeps them.
    """

    start: contract.Start = "pretrained"

    def __init__(
        self,
        rank: int = 16,
        alpha: float = 32.0,
        residual: int = 64,
        support: Literal["grebsmo", "magnitude", "random"] = "grebsmo",
        roles: tuple[str, ...] = ("query", "value"),
        sparsity: float = 0.5,
        update_sparsity: float | None = None,
        score: Literal["update", "weight", "merged", "random"] = "update",
        heads: float = 0.0,
        neurons: float = 0.0,
        structure_score: Literal["update", "weight", "random", "gates"] = "update",
        gate_l1: float = 1e-4,
        tune: float = 0.5,
        lr: float = 1e-3,
        deploy: Literal["merged", "side_branch"] = "merged",
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        self.residual = residual
        self.support = support
        self.roles = tuple(roles)
        self.sparsity = sparsity
        self.update_sparsity = sparsity if update_sparsity is None else update_sparsity
        self.score = score
        self.heads = heads
        self.neurons = neurons
        self.structure_score = structure_score
        self.gate_l1 = gate_l1
        self.tune = tune
        self.lr = lr
        self.deploy = deploy

        self.structured = heads > 0 or neurons > 0
        self.masked = self.sparsity > 0 or self.update_sparsity > 0
        side = deploy == "side_branch"
        zeros = self.sparsity > 0 or (self.update_sparsity > 0 and side)
        self.produces = frozenset({"sparse weights"} if zeros else ())
        # merging fills zeros in, and cutting columns breaks runs of N:M
        self.keeps = frozenset({"sparse weights"} if side and not self.structured else ())

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        return problems(self, parts_of(model), model)

    def parallel_requirements(self, strategy: Literal["ddp", "fsdp"]) -> list[str]:
        if strategy == "fsdp" and self.structured and self.structure_score == "gates":
            return [
                "structure_score=gates: its penalty reads the gates outside their layers, which "
                "FSDP shards; use trainer=ddp or structure_score=update"
            ]
        return []

    def stages(self, training: list[Stage]) -> list[Stage]:
        """The support, then what the model and the task train, before and after one pruning. Their
        stages (one, as a rule) become "tune" and "recover"."""
        several = sum(stage.share > 0 for stage in training) > 1

        def phase(name: str, share: float) -> list[Stage]:
            return [
                replace(
                    stage,
                    name=f"{name} {stage.name}" if several else name,
                    share=share * stage.share,
                    lr=self.lr,
                )
                for stage in training
                if stage.share * share > 0
            ]

        once = [stage for stage in training if not stage.share]
        plan = [*once, Stage("support", share=0.0)]
        if not (self.masked or self.structured):
            return plan + phase("tune", 1.0)
        prune = Stage("prune", share=0.0)
        return [*plan, *phase("tune", self.tune), prune, *phase("recover", 1 - self.tune)]

    def prepare(self, model: nn.Module) -> None:
        scale = self.alpha / self.rank
        for path, linear in body_linears(model, self.roles).items():
            replace_module(model, path, AdaptedLinear.of(linear, self.rank, self.residual, scale))
        if self.structured:
            structured.add_gates(model, self.heads, self.neurons)
        if self.masked:
            for linear in body_linears(model).values():
                masks.attach(linear)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name == "support":
            for path in body_linears(model, self.roles):
                if path not in done:
                    self._begin(stage, path, model.get_submodule(path))
                    yield path
        elif stage.name == "prune":
            if self.structured and STRUCTURE not in done:
                structured.remove_units(
                    model,
                    self.heads,
                    self.neurons,
                    self.structure_score,
                    lambda units: stage.generator("units", units.kind, units.block),
                )
                yield STRUCTURE
            if self.masked and WEIGHTS not in done:
                prune_weights(
                    model,
                    self.sparsity,
                    self.update_sparsity,
                    self.score,
                    lambda path: stage.generator("mask", path),
                )
                yield WEIGHTS

    @torch.no_grad()
    def _begin(self, stage: Stage, path: str, module: AdaptedLinear) -> None:
        """The update's initial state, and Ω from the pre-trained weight."""
        draw = torch.randn(module.V.shape, generator=stage.generator("V", path))
        module.V.copy_(V_STD * draw)
        module.U.zero_()
        module.values.zero_()
        generator = stage.generator("support", path)
        entries = find_support(self.support, module.weight, self.residual, self.rank, generator)
        module.indices.copy_(entries)

    def enter(self, stage: Stage, model: nn.Module) -> None:
        """U, V, the values of S2 and the head train; while tuning for them, the gates, too."""
        model.requires_grad_(False)
        for path in parts_of(model).head:
            model.get_submodule(path).requires_grad_(True)
        for module in body_linears(model, self.roles).values():
            for parameter in (module.U, module.V, module.values):
                parameter.requires_grad_(True)
        if stage.name.startswith("tune") and self.structure_score == "gates":
            for gated in structured.gates(model):
                gated.gate.requires_grad_(True)

    def losses(
        self, model: nn.Module, task: Any, batch: Batch, output: Output, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        training = [m.gate for m in structured.gates(model) if m.gate.requires_grad]
        if not training:
            return {}
        return {"gates": self.gate_l1 * torch.cat(training).abs().sum()}

    def finalize(self, model: nn.Module) -> None:
        """Cut what is gated off, then merge or keep the side branches; masks leave their zeros."""
        for _, module in list(masks.masked(model)):
            masks.remove(module)
        structured.cut_gated(model)
        for path, module in body_linears(model, self.roles).items():
            replace_module(model, path, deployed(module, merge=self.deploy == "merged"))

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        checks = [
            *proof.sparsity_met(loaded, self.roles, self.sparsity, self.update_sparsity),
            *proof.units_removed(loaded, self.heads, self.neurons),
        ]
        if self.deploy == "side_branch":
            checks.append(proof.supports_exact(loaded, self.roles))
        return checks

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        return proof.facts(loaded, self.roles, self.sparsity, self.update_sparsity)
