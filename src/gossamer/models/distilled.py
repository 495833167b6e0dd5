"""What methods that learn from a teacher on three levels have in common: labels, logits and feature
maps (`distillation.Levels`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import contract
from gossamer.contract import Batch, Output, Stage, Teacher
from gossamer.distillation import Levels
from gossamer.models.parts import parts_of


class Distilled(contract.Method):
    """`levels`: the terms; `features`: of so many of the model's last feature maps."""

    levels: Levels
    features: int
    seen: Tensor | None = None  # (maps,) the feature losses of the latest rows

    def distillation_problems(self, model: nn.Module, data: Any) -> list[str]:
        """What is wrong with the settings, one line each."""
        found = self.levels.problems()
        parts = parts_of(model)
        maps = parts.features or parts.blocks
        if self.levels.gamma and not 1 <= self.features <= len(maps):
            found.append(
                f"features={self.features}: from 1 to {len(maps)}, the model's feature maps; "
                "gamma=0 compares none"
            )
        by_class = self.levels.gamma > 0 or self.levels.hard_target == "teacher"
        if by_class and data is not None and data.info.classes is None:
            found.append(
                f"gamma={self.levels.gamma}: maps are compared, and the teacher's answers taken, "
                "where two classifiers agree; type gamma=0 and hard_target=gt"
            )
        return found

    def taught(self, stage: Stage, teacher: str, lr: float | None) -> Stage:
        """A trained stage with this teacher, at this learning rate (None: its own). Where the
        teacher's answers are the target it sees no label."""
        return replace(
            stage,
            lr=stage.lr if lr is None else lr,
            teacher=teacher if self.levels.taught else stage.teacher,
            capture=self.features if self.levels.gamma else (),
            labels=self.levels.hard_target == "gt",
        )

    def losses(
        self, model: nn.Module, task: Any, batch: Batch, output: Output, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        labelled = self.levels.hard_target == "gt"
        hard = task.loss(batch, output) if labelled else None
        if not self.levels.taught:
            assert hard is not None
            return {"task": self.levels.alpha * hard}
        assert teacher is not None
        weights = self.map_weights(model)
        terms, self.seen = self.levels.terms(hard, output, teacher(batch), weights)
        return terms

    def map_weights(self, model: nn.Module) -> Tensor | None:
        """(maps,) What each feature loss counts; None: 1."""
        return None


def by_map(name: str, values: Tensor) -> dict[str, float]:
    """{"name 0": …}, one figure for each feature map, the last one of the model last."""
    return {f"{name} {place}": float(value) for place, value in enumerate(values)}


def late(step: int, steps: int, share: float) -> int:
    """Which of the last `share` of `steps` steps this one is, from 1; 0 or less: none of them."""
    return step - (steps - max(1, round(share * steps)))


@torch.no_grad()
def running_mean(mean: Tensor, value: Tensor, count: int) -> None:
    """`mean` of count - 1 values becomes that of `count`, in place."""
    mean.lerp_(value.to(mean), 1 / count)
