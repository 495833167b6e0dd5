"""GPUSQ-ViT: 2:4 sparsity, then quantisation-aware training, each taught on three levels.

Yu, Chen, Gan, Fan: Boost vision transformer with GPU-friendly sparsity and quantization, CVPR 2023,
arXiv:2305.10727. No code was released. Dense float M_DF → sparse float M_SF → sparse integers M_SQ:

    prune      of every four inputs of an output the two largest weights stay (INT4: of every four
               pairs two, what its sparse products take), in the body and the patch embedding
    sparse     L = α L_hard + β L_soft + γ Σ_l L_feat,l            teacher M_DF, mask held
    calibrate  the range of every operation's inputs
    quantize   L = α L_hard + β L_soft + γ Σ_l w_l L_feat,l        teacher M_SF, on the grid

L_hard is cross-entropy against the labels or, unsupervised, against the teacher's class; L_soft the
divergence of the logits; L_feat,l that of a late feature map, of samples on which student and
teacher agree. w_l, the sparse-distillation-aware factor, is small where L_feat,l stayed large when
the model was made sparse.

What the paper leaves open and is chosen here: w_l = (1 / F_l) / mean_k (1 / F_k), with F_l the mean
of L_feat,l over the last tenth of the sparse stage's steps (it says the last epoch); the squared
error for L_feat and the KL divergence for L_soft; symmetric grids, a scale for each output of a
weight, a calibrated one for each input; 4 bits are of weights and inputs; the head is quantised and
not pruned; INT4 has pairs from the start, since a plain 2:4 mask is no mask of pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Output, Stage, Teacher
from gossamer.distillation import Factors, Levels, distillation_aware
from gossamer.models import sparse_body
from gossamer.models.distilled import Distilled, by_map, late, running_mean
from gossamer.models.quantized import CALIBRATE, Quantized
from gossamer.quantization.observers import Kind
from gossamer.sparsity import masks
from gossamer.sparsity.patterns import parse

PATTERNS = {8: "2:4", 4: "pairwise:4:8"}
LAST = 0.1  # of the sparse stage's steps: those that F_l is the mean of


class Gpusq(Distilled, Quantized):
    """GPUSQ-ViT.

    Args:
        bits: 8 or 4, of weights and inputs.
        pattern: null: 2:4 with 8 bits, pairwise:4:8 with 4; or another N:M.
        prune: prune operations of these roles; None: all but the head.
        quantize: … and quantise those of these; None: all.
        alpha, beta, gamma: weights of the labels', the logits' and the feature maps' terms.
        temperature: of the logits' term.
        hard_target: gt, the labels; teacher: unsupervised, and no label is read.
        features: how many of the model's last feature maps are compared (blocks; Swin: stages).
        factors: w_l: inverse, softmax (of −F_l) or none, which is 1.
        calibration, percentile, samples: as in `ptq`.
        share: of the steps that make the model sparse; the rest trains integers.
        lr: learning rate of the sparse stage; None: the trainer's. quantize_lr: of the other one.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights", "quantized weights"})
    keeps = frozenset({"sparse weights"})  # zeros have the lowest score, and the engine holds them

    def __init__(
        self,
        bits: int = 8,
        pattern: str | None = None,
        prune: tuple[str, ...] | None = None,
        quantize: tuple[str, ...] | None = None,
        alpha: float = 1.0,
        beta: float = 10.0,
        gamma: float = 5.0,
        temperature: float = 1.0,
        hard_target: Literal["gt", "teacher"] = "gt",
        features: int = 2,
        factors: Literal["none", "inverse", "softmax"] = "inverse",
        calibration: Literal["max", "percentile", "entropy"] = "percentile",
        percentile: float = 99.99,
        samples: int = 512,
        share: float = 0.8,
        lr: float | None = None,
        quantize_lr: float | None = 1e-5,
    ) -> None:
        self.bits = bits
        self.pattern = pattern or PATTERNS.get(bits, "2:4")
        self.prune = None if prune is None else tuple(prune)
        self.quantize = None if quantize is None else tuple(quantize)
        self.levels = Levels(alpha, beta, gamma, temperature, hard_target)
        self.features = features
        self.factors: Factors = factors
        self.calibration: Kind = calibration
        self.percentile = percentile
        self.samples = samples
        self.share = share
        self.lr = lr
        self.quantize_lr = quantize_lr

    def pruned(self, model: nn.Module) -> dict[str, Any]:
        """The operations that become sparse, by path, in execution order."""
        return sparse_body.prunable(model, self.prune)

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        found = [
            line.replace("roles", "prune")
            for line in sparse_body.operation_problems(model, self.pattern, self.prune)
        ]
        found += self.quantization_problems(model, data)
        found += self.distillation_problems(model, data)
        if self.factors not in get_args(Factors):
            found.append(f"factors={self.factors}: choose {', '.join(get_args(Factors))}")
        if not 0 < self.share < 1:
            found.append(f"share={self.share}: between 0 and 1, e.g. 0.8")
        return found

    def stages(self, training: list[Stage]) -> list[Stage]:
        sparse = self.taught(Stage("sparse", share=self.share), "start", self.lr)
        on_grid = Stage("quantize", share=1 - self.share)
        return [
            *(stage for stage in training if not stage.share),
            Stage("prune", share=0.0),
            sparse,
            CALIBRATE,
            self.taught(on_grid, "sparse", self.quantize_lr),
        ]

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        for layer in self.pruned(model).values():
            masks.attach(layer)
        place = next(model.parameters()).device
        model.register_buffer("feature_loss", torch.zeros(self.features, device=place))  # F_l

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name == "prune":
            yield from sparse_body.prune_to(parse(self.pattern), self.pruned(model), done)
        yield from super().apply(stage, model, batches, done)

    def on_grid(self, stage: Stage) -> bool:
        return stage.name == "quantize"

    def enter(self, stage: Stage, model: nn.Module) -> None:
        super().enter(stage, model)
        self.stage = stage
        self.maps: list[Tensor] = []  # feature losses of the parts of this step's batch

    def map_weights(self, model: nn.Module) -> Tensor | None:
        if self.stage.name == "sparse":
            return None
        return distillation_aware(model.get_buffer("feature_loss"), self.factors)

    def losses(
        self, model: nn.Module, task: Any, batch: Batch, output: Output, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        terms = super().losses(model, task, batch, output, teacher)
        if self.levels.gamma and self.seen is not None:
            self.maps.append(self.seen)
        return terms

    def after_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for layer in self.pruned(model).values():
            masks.apply(layer)
        count = late(step, self.stage.steps, LAST)
        if self.stage.name == "sparse" and self.maps and count > 0:
            now = self.mean_of_ranks(torch.stack(self.maps).mean(0))
            running_mean(model.get_buffer("feature_loss"), now, count)
        self.maps = []

    def monitors(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        if not self.levels.gamma:
            return {}
        if self.stage.name == "sparse":
            return by_map("feature loss", model.get_buffer("feature_loss"))
        weights = self.map_weights(model)
        assert weights is not None
        return by_map("factor", weights)

    def finalize(self, model: nn.Module) -> None:
        del model.feature_loss
        for layer in self.pruned(model).values():
            masks.remove(layer)
        super().finalize(model)

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        weights = {path: layer.weight for path, layer in self.pruned(loaded).items()}
        sparse = sparse_body.groups_are_sparse(parse(self.pattern), weights)
        return [sparse, *super().verify(loaded, reference)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        density, pruned = parse(self.pattern).density, self.pruned(loaded)
        return [
            replace(fact, pattern=self.pattern, target=density, changed=True, skipped=None)
            if fact.name in pruned
            else fact
            for fact in super().ledger(loaded)
        ]
