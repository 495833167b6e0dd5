"""N:M pruning by magnitude, then training with the mask held, taught by the dense model.

What NVIDIA's ASP does (Mishra et al.: Accelerating sparse deep neural networks, 2021,
arXiv:2104.08378): of every four consecutive inputs of an output the two largest weights stay, once,
on the trained model; then the training is repeated. The loss is that of GPUSQ-ViT's first stage (Yu
et al., CVPR 2023, arXiv:2305.10727): labels, logits and late feature maps of the dense model. With
`beta=0 gamma=0` it is ASP's own.

What differs from ASP: no search for a permutation of the inputs that would keep more; the patch
embedding is pruned too, as the matrix (D, C P²) that GPUSQ-ViT sees in it (ASP groups a convolution
along C and leaves an input of three channels alone); momentum of dropped weights is left to decay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

from torch import nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.distillation import Levels
from gossamer.models import sparse_body
from gossamer.models.distilled import Distilled
from gossamer.models.verbs import HeldMasks
from gossamer.sparsity.patterns import parse


class NmPrune(Distilled, HeldMasks):
    """Prune once to N:M, then train what is left.

    Args:
        pattern: N:M or pairwise:N:M (pairwise:4:8 is what sparse INT4 products take).
        roles: prune operations of these roles; None: all but the head.
        alpha, beta, gamma, temperature, hard_target, features: as in `qat`; the teacher is the
            dense start.
        lr: learning rate; None: the trainer's.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights"})
    keeps = frozenset({"sparse weights"})  # zeros have the lowest score, and the engine holds them

    def __init__(
        self,
        pattern: str = "2:4",
        roles: tuple[str, ...] | None = None,
        alpha: float = 1.0,
        beta: float = 10.0,
        gamma: float = 5.0,
        temperature: float = 1.0,
        hard_target: Literal["gt", "teacher"] = "gt",
        features: int = 2,
        lr: float | None = None,
    ) -> None:
        self.pattern = pattern
        self.roles = None if roles is None else tuple(roles)
        self.levels = Levels(alpha, beta, gamma, temperature, hard_target)
        self.features = features
        self.lr = lr

    def layers(self, model: nn.Module) -> dict[str, nn.Module]:
        return sparse_body.prunable(model, self.roles)

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        return [
            *sparse_body.operation_problems(model, self.pattern, self.roles),
            *self.distillation_problems(model, data),
        ]

    def stages(self, training: list[Stage]) -> list[Stage]:
        trained = [self.taught(stage, "start", self.lr) for stage in training if stage.share]
        return [
            *(stage for stage in training if not stage.share),
            Stage("prune", share=0.0),
            *trained,
        ]

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name == "prune":
            yield from sparse_body.prune_to(parse(self.pattern), self.layers(model), done)

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        weights = {path: layer.weight for path, layer in self.layers(loaded).items()}
        return [sparse_body.groups_are_sparse(parse(self.pattern), weights)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        targets = dict.fromkeys(self.layers(loaded), parse(self.pattern).density)
        return sparse_body.operation_facts(loaded, self.pattern, targets)
