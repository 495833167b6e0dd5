"""A fixed mask, then retraining: the naive baseline of methods that learn masks while they train.

Prune once by magnitude (Han et al., NeurIPS 2015) or by Wanda's score (Sun et al., ICLR 2024,
arXiv:2306.11695), then train what is left for all steps with the mask held. The N:M literature has
it as "naive" or "fixed mask": SR-STE (Zhou et al., ICLR 2021), AST (Huang et al., AAAI 2025) and
CAST (Huang et al., 2025, arXiv:2509.25996) are measured against it, at the same number of steps.

What differs from `magnitude` with the same pattern: the score may be Wanda's, and unstructured
every row of Wanda, and every layer of magnitude, loses the same share, as those two papers compare.

One choice on each axis: score |W| or |W|·‖X‖; N:M or unstructured; uniform; one-shot; no rewiring.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

from torch import Tensor, nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.models import calibration, sparse_body
from gossamer.models.verbs import HeldMasks
from gossamer.sparsity import masks, scores
from gossamer.sparsity.patterns import keep_top_of_rows, parse
from gossamer.sparsity.statistics import InputNorm


class FixedMask(HeldMasks):
    """Prune once, then retrain with the mask held.

    Args:
        score: magnitude, or wanda, which reads calibration rows.
        pattern: N:M, or unstructured: the same share of every layer (magnitude) or row (wanda).
        sparsity: share of the weights to drop, between 0 and 1. An N:M pattern fixes it: 1 - N/M.
        samples: rows of the training split to calibrate on, with score wanda.
        roles: prune only layers of these roles; None: every linear layer of the body.
        lr: learning rate of the retraining; None: what the task or the trainer says.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse weights"})
    keeps = frozenset({"sparse weights"})  # zeros have the lowest score, and the engine holds them

    def __init__(
        self,
        score: Literal["magnitude", "wanda"] = "magnitude",
        pattern: str = "2:4",
        sparsity: float = 0.5,
        samples: int = 128,
        roles: tuple[str, ...] | None = None,
        lr: float | None = None,
    ) -> None:
        self.score = score
        self.pattern = pattern
        self.sparsity = sparsity
        self.samples = samples
        self.roles = None if roles is None else tuple(roles)
        self.lr = lr

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        problems = sparse_body.problems(model, self.pattern, self.sparsity, self.roles)
        if self.score not in ("magnitude", "wanda"):
            problems.append(f"score={self.score}: choose magnitude or wanda")
        problems += calibration.pattern_problems(self.pattern)
        if self.score == "wanda":
            problems += calibration.sample_problems(self.samples, data)
        return problems

    def stages(self, training: list[Stage]) -> list[Stage]:
        return sparse_body.pruned_once(training, 1.0, self.lr)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name != "prune":
            return
        if self.score == "wanda":

            def prune(path: str, layer: nn.Module, inputs: InputNorm) -> None:
                self.mask(layer, scores.wanda(layer.weight.float(), inputs.value()))

            yield from calibration.prune_blocks(
                model, batches, self.samples, self.roles, InputNorm, prune, done
            )
            return
        for path, layer in self.layers(model).items():
            if path not in done:
                self.mask(layer, scores.magnitude(layer.weight))
                yield path

    def mask(self, layer: nn.Module, score: Tensor) -> None:
        """Fix a layer's mask: `score` (out, in) is highest where a weight is kept."""
        pattern = parse(self.pattern)
        if pattern.m:
            mask = pattern.mask(score, None)
        elif self.score == "wanda":
            mask = keep_top_of_rows(score, self.keep(layer))
        else:
            mask = pattern.mask(score, self.keep(layer))
        masks.attach(layer, mask)
        masks.apply(layer)

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        layers, pattern = self.layers(loaded), parse(self.pattern)
        weights = {name: layer.weight for name, layer in layers.items()}
        if pattern.m:
            return [sparse_body.groups_are_sparse(pattern, weights)]
        keep = {name: self.keep(layer) for name, layer in layers.items()}
        if self.score == "wanda":
            return [sparse_body.rows_are_sparse(weights, keep)]
        return [sparse_body.layers_are_sparse(weights, keep)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        targets = {
            name: parse(self.pattern).density or self.keep(layer) / self.counted(layer)
            for name, layer in self.layers(loaded).items()
        }
        return sparse_body.facts(loaded, self.pattern, targets)

    def counted(self, layer: nn.Module) -> int:
        """Weights that are compared with one another, unstructured: a row's, or the layer's."""
        return layer.weight.shape[1] if self.score == "wanda" else layer.weight.numel()

    def keep(self, layer: nn.Module) -> int:
        """How many of them are kept."""
        return self.counted(layer) - round(self.sparsity * self.counted(layer))
