"""Sparsifiner: each image, head and query keeps its own few keys, told by a low-rank predictor.

Wei, Duke, Jiang, Aarabi, Taylor, Shkurti: Sparsifiner: learning sparse instance-dependent attention
for efficient vision transformers, CVPR 2023, arXiv:2303.13755.

    draw         a predictor for each block (`predictor`)
    reconstruct  (1/L) Σ_l Σ_hij (Ã^l - A^l)², the mean over the batch; attention is dense, only
                 the predictors train
    sparsify     M = 1 on the B largest of each patch's row of Ã, the class token's row is 1, and
                 P = softmax(Q Kᵀ / sqrt(d_h)) over what M keeps, from here on
    distill      1.0 L_cls + 0.5 KL(teacher ‖ student) + 0.5 MSE of the final patch tokens; M has no
                 gradient, the predictors are frozen, the backbone trains
    recall       how much of its own dense attention the trained backbone would find on M

In `reconstruct` the backbone is frozen, so its own attention is the dense teacher's and no teacher
is run. What differs from the released code: L_rec is a mean over the batch, with the weight that it
had at 168 images per GPU (0.01 * 168); the budget is never overwritten, ties go to the lower index;
learning rates fall to 0, not to 2e-4 and 2e-6; weight decay is the trainer's, for all parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gossamer import contract
from gossamer.compression.sparsifiner.predictor import LowRank, Scale
from gossamer.contract import Batch, Output, Stage, Teacher
from gossamer.models.attention import attentions, selectable_problems, tokens_of
from gossamer.models.chosen_keys import ChosenKeys, sparsified
from gossamer.models.connectivity import Connectivity, Oracle
from gossamer.models.parts import parts_of
from gossamer.sparsity.attention import tiled_budget
from gossamer.sparsity.attention_paths import Kernel

Kind = Literal["learned", "oracle"]


class Sparsifiner(ChosenKeys):
    """Sparsifiner.

    Args:
        keep: share of the tokens that each patch's query attends to, for all blocks or one each.
        budget: the number of them instead; None: ceil(keep * tokens).
        kind: learned; oracle: the largest of the true attention, an upper bound that saves little.
        reduce_n, reduce_c: n_down = n // reduce_n basis patterns, c' = d_h // reduce_c channels.
        coefficients: s, how many basis patterns a query's row is made of; all if there are fewer.
        threshold: τ, below which an entry of a basis pattern is 0.
        scale: κ of the predictor's scores: heads, H^(-1/2), as released; dim, c'^(-1/2).
        tile: 1; or the budget keeps and drops blocks of so many keys (128 for FlexAttention).
        kernel: how the finished model computes: masked, gather or flex (docs/sparse-attention.md).
        reconstruction: weight of L_rec.
        cls, kd, tokens: weights of the labels', the logits' and the tokens' terms of `distill`.
        recover: share of the steps that train the backbone; those before train the predictors.
        reconstruct_lr: learning rate of the predictors; lr: of the backbone, None: the trainer's.
        ema: decay of the averaged copy that leaves either stage; None: the last step does.
        samples: training rows that the recall is measured on, after as many for the static pattern.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse attention"})
    keeps = frozenset({"sparse weights", "pruned tokens"})  # the engine holds the zeros
    shares_steps = True

    def __init__(
        self,
        keep: float | tuple[float, ...] = 0.25,
        budget: int | tuple[int, ...] | None = None,
        kind: Literal["learned", "oracle"] = "learned",
        reduce_n: int = 6,
        reduce_c: int = 2,
        coefficients: int = 8,
        threshold: float = 0.02,
        scale: Literal["heads", "dim"] = "heads",
        tile: int = 1,
        kernel: Literal["masked", "gather", "flex"] = "masked",
        reconstruction: float = 1.68,
        cls: float = 1.0,
        kd: float = 0.5,
        tokens: float = 0.5,
        recover: float = 0.9,
        reconstruct_lr: float | None = 3e-4,
        lr: float | None = 8e-5,
        ema: float | None = None,
        samples: int = 128,
    ) -> None:
        self.keep = keep if isinstance(keep, int | float) else tuple(keep)
        self.budget = budget if budget is None or isinstance(budget, int) else tuple(budget)
        self.kind: Kind = kind
        self.reduce_n, self.reduce_c = reduce_n, reduce_c
        self.coefficients, self.threshold = coefficients, threshold
        self.scale: Scale = scale
        self.tile = tile
        self.kernel: Kernel = kernel
        self.reconstruction = reconstruction
        self.cls, self.kd, self.tokens = cls, kd, tokens
        self.recover = recover
        self.reconstruct_lr, self.lr, self.ema = reconstruct_lr, lr, ema
        self.samples = samples

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        found = self.key_problems(model, data)
        if selectable_problems(model):
            return found
        tokens = tokens_of(model)
        head_dim = min(model.get_submodule(path).head_dim for path in parts_of(model).attention)
        for key, value, most in (
            ("reduce_n", self.reduce_n, tokens),
            ("reduce_c", self.reduce_c, head_dim),
            ("coefficients", self.coefficients, None),
            ("tile", self.tile, None),
        ):
            if value < 1 or (most is not None and value > most):
                end = "" if most is None else f" to {most}"
                found.append(f"{key}={value}: from 1{end}")
        for key, value, accepted in (
            ("kind", self.kind, get_args(Kind)),
            ("scale", self.scale, get_args(Scale)),
        ):
            if value not in accepted:
                found.append(f"{key}={value}: choose {', '.join(accepted)}")
        if self.threshold < 0:
            found.append(f"threshold={self.threshold}: from 0, e.g. 0.02")
        if self.reconstruction <= 0:
            found.append(f"reconstruction={self.reconstruction}: above 0, e.g. 1.68")
        if self.kind == "oracle" and self.tile > 1:
            found.append(f"tile={self.tile}: with kind=learned; type tile=1")
        return found

    def parallel_requirements(self, strategy: Literal["ddp", "fsdp"]) -> list[str]:
        if strategy == "ddp" or self.kind == "oracle" or self.recover == 1:
            return []
        return [
            "kind=learned: what trains a predictor is no output of its block, which is where FSDP "
            "gathers the parameters again to go backward; use trainer=ddp"
        ]

    def stages(self, training: list[Stage]) -> list[Stage]:
        plain = [stage for stage in training if not stage.share]
        if self.kind == "oracle":
            return sparsified(plain, self.distill_stage(1.0 if self.recover else 0.0))
        predict = Stage(
            "reconstruct",
            share=1 - self.recover,
            lr=self.reconstruct_lr,
            ema=self.ema,
            capture="error",
            labels=False,
        )
        learned = [predict] if predict.share else []
        first = [*plain, Stage("draw", share=0.0), *learned]
        return sparsified(first, self.distill_stage(self.recover))

    def connectivity(self, model: nn.Module, budget: int) -> Connectivity:
        prefix = parts_of(model).prefix
        if self.kind == "oracle":
            return Oracle(budget, prefix)
        one = next(iter(attentions(model).values()))
        basis = max(1, tokens_of(model) // self.reduce_n)
        return LowRank(
            budget,
            prefix,
            tokens=tokens_of(model),
            head_dim=one.head_dim,
            heads=one.num_heads,
            basis=basis,
            channels=max(1, one.head_dim // self.reduce_c),
            coefficients=min(self.coefficients, basis),
            threshold=self.threshold,
            scale=self.scale,
            tile=self.tile,
        )

    def enter(self, stage: Stage, model: nn.Module) -> None:
        super().enter(stage, model)
        if stage.name == "reconstruct":
            model.requires_grad_(False)
            for layer in attentions(model).values():
                layer.connectivity.requires_grad_(True)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name == "draw":
            for path, layer in attentions(model).items():
                if path not in done:
                    layer.connectivity.draw(stage.generator("predictor", path))
                    yield path
        yield from super().apply(stage, model, batches, done)

    def losses(
        self, model: nn.Module, task: Any, batch: Batch, output: Output, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        if self.stage.name != "reconstruct":
            return super().losses(model, task, batch, output, teacher)
        errors = torch.stack(list(output["features"].values()))  # (L,)
        return {"reconstruction": self.reconstruction * errors.mean()}

    def kept_keys(self, budget: int, tokens: int) -> tuple[int, int]:
        most = tiled_budget(budget, tokens, self.tile)
        narrower = -tokens % self.tile  # the last tile
        return most - (narrower if most < tokens else 0), most
