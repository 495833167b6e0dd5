"""What methods that change a vision transformer's attention have in common: the training after the
change, taught by the dense start on labels, logits and final patch tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gossamer import contract
from gossamer.contract import Batch, Output, Stage, Teacher
from gossamer.distillation import kl
from gossamer.models.parts import parts_of
from gossamer.models.token_blocks import positions_left

DISTILL = "distill"  # the stage's name


class TokenDistilled(contract.Method):
    """L = `cls` * L_task + `kd` * KL(teacher ‖ student) + `tokens` * MSE of the final patch tokens,
    in a stage "distill" of the share `recover` of the steps."""

    cls: float
    kd: float
    tokens: float
    recover: float
    lr: float | None
    ema: float | None
    shares_steps = False  # do steps before `distill` train something else?
    trains = "backbone"  # what `distill` does, in messages

    def distillation_problems(self, model: nn.Module, data: Any) -> list[str]:
        """What is wrong with the settings, one line each."""
        found = [
            f"{key}={value}: from 0"
            for key, value in (("cls", self.cls), ("kd", self.kd), ("tokens", self.tokens))
            if value < 0
        ]
        if self.recover and not self.cls + self.kd + self.tokens:
            found.append("cls=0, kd=0, tokens=0: nothing to learn from; e.g. cls=1.0")
        if self.shares_steps and not 0 <= self.recover <= 1:
            found.append(f"recover={self.recover}: a share of the steps, from 0 to 1")
        if not self.shares_steps and self.recover not in (0, 1):
            found.append(f"recover={self.recover}: 1, all steps train the {self.trains}, or 0")
        if self.ema is not None and not 0 < self.ema < 1:
            found.append(f"ema={self.ema}: between 0 and 1, e.g. 0.9999; null: off")
        if self.tokens and parts_of(model).tokens is None:
            found.append(f"tokens={self.tokens}: this model has no patch tokens; type tokens=0")
        return found

    def distill_stage(self, share: float) -> list[Stage]:
        """The stage, or none if it has no steps."""
        if not share:
            return []
        taught = self.kd > 0 or self.tokens > 0
        return [
            Stage(
                DISTILL,
                share=share,
                lr=self.lr,
                ema=self.ema,
                teacher="start" if taught else None,
                capture="tokens" if self.tokens else (),
                labels=self.cls > 0,
            )
        ]

    def losses(
        self, model: nn.Module, task: Any, batch: Batch, output: Output, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        terms = {"task": self.cls * task.loss(batch, output)} if self.cls else {}
        if teacher is None:
            return terms
        taught = teacher(batch)
        if self.kd:
            terms["logits"] = self.kd * kl(output["logits"], taught["logits"])
        if self.tokens:
            (mine,), (theirs,) = output["features"].values(), taught["features"].values()
            terms["tokens"] = self.tokens * token_loss(
                mine, theirs, parts_of(model).prefix, positions_left(model)
            )
        return terms


def token_loss(student: Tensor, teacher: Tensor, prefix: int, positions: Tensor | None) -> Tensor:
    """() Mean squared error over all elements of the patch tokens: of the student (B, n', d)
    against those of the teacher (B, n, d) at the same `positions` (B, n') of the grid (None: all
    are there). The first `prefix` tokens are none."""
    if positions is not None:
        rows = positions[..., None].expand(-1, -1, teacher.shape[-1])
        teacher = teacher.gather(1, rows)
    return (student[:, prefix:].float() - teacher[:, prefix:].float()).square().mean()
