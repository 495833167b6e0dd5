"""Learning from a teacher: losses between two models' outputs for the same batch.

A teacher never gets a gradient. What costs memory is a vocabulary: the logits of 4096 tokens over
32,000 words are half a GB in float32, so a loss here keeps one tensor of that size, not four.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

ROWS = 1024  # positions that are looked at together
HardTarget = Literal["gt", "teacher"]
Factors = Literal["none", "inverse", "softmax"]


def kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL(P_teacher ‖ P_student), with P = softmax(logits / T); the mean over all positions.

    T² keeps the size of the gradient, which dividing both logits by T lowers by 1 / T² (Hinton,
    Vinyals, Dean, 2015). Computed in float32 at least, whatever the logits are.

    Args:
        student, teacher: logits (…, V); the teacher's get no gradient.

    Returns:
        A scalar, float32 at least. Raises ValueError if the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"logits of the student are {tuple(student.shape)}, of the teacher "
            f"{tuple(teacher.shape)}: do both read the same batch with the same vocabulary?"
        )
    return _KL.apply(student, teacher.detach(), temperature)


@dataclass(frozen=True)
class Levels:
    """α · hard + β · soft + γ · Σ over maps of w · feature.

    hard      cross-entropy against the labels ("gt"), or against the class that the teacher says
              ("teacher"), for which no label is read
    soft      `kl` of the logits
    feature   `feature_losses`
    """

    alpha: float = 1.0
    beta: float = 10.0
    gamma: float = 5.0
    temperature: float = 1.0  # of the soft labels
    hard_target: HardTarget = "gt"

    def problems(self) -> list[str]:
        """What is wrong with the settings, one line each, beginning with the setting's name."""
        found = [
            f"{name}={value}: from 0"
            for name, value in (("alpha", self.alpha), ("beta", self.beta), ("gamma", self.gamma))
            if value < 0
        ]
        if not self.alpha + self.beta + self.gamma:
            found.append("alpha=0, beta=0, gamma=0: nothing to learn from; e.g. alpha=1")
        if self.temperature <= 0:
            found.append(f"temperature={self.temperature}: greater than 0, e.g. 1.0")
        if self.hard_target not in get_args(HardTarget):
            found.append(f"hard_target={self.hard_target}: choose gt or teacher")
        return found

    @property
    def taught(self) -> bool:
        """Is there a term that needs a teacher?"""
        return self.beta > 0 or self.gamma > 0 or self.hard_target == "teacher"

    def terms(
        self,
        hard: Tensor | None,
        output: Mapping[str, Any],
        taught: Mapping[str, Any],
        weights: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The terms of the loss, and the feature losses (maps,) that are in the third, unweighted
        and without a gradient.

        Args:
            hard: the task's own loss; None where the teacher's class is the target.
            output, taught: of student and teacher for the same batch: "logits" (B, classes) and, if
                maps are compared, "features" (as `feature_losses` takes them).
            weights: w (maps,); None: 1 each.
        """
        logits, target = output["logits"], taught["logits"].detach()
        if hard is None:
            hard = functional.cross_entropy(logits.float(), target.argmax(-1))
        terms = {"task": self.alpha * hard}
        if self.beta:
            terms["soft"] = self.beta * kl(logits, target, self.temperature)
        if not self.gamma:
            return terms, logits.new_zeros(0)
        agree = logits.argmax(-1) == target.argmax(-1)
        losses = feature_losses(output["features"], taught["features"], agree)
        weighted = losses if weights is None else weights.to(losses) * losses
        return terms | {"feature": self.gamma * weighted.sum()}, losses.detach()


def feature_losses(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], agree: Tensor
) -> Tensor:
    """(maps,) For each map the mean squared error over tokens and channels, 0 for a sample on which
    the models disagree; the mean over all samples, so that a batch that several devices share has
    the loss that one device gives it.

    Args:
        student, teacher: name -> (B, …), the same names in the same order.
        agree: bool (B,).
    """
    share = agree.float() / len(agree)
    return torch.stack(
        [
            (mine.float() - theirs.detach().float()).square().flatten(1).mean(1) @ share
            for mine, theirs in zip(student.values(), teacher.values(), strict=True)
        ]
    )


def distillation_aware(losses: Tensor, kind: Factors) -> Tensor:
    """(maps,) Weights with the mean 1: a map that was hard to mimic while the model was made sparse
    (a large loss) counts less when it is quantised.

    The paper gives the direction and no closed form. "inverse": 1 / loss; "softmax": of
    −loss; "none": 1."""
    losses = losses.float()
    if kind == "none":
        return torch.ones_like(losses)
    if kind == "softmax":
        return torch.softmax(-losses, 0) * len(losses)
    raw = 1 / (losses + torch.finfo(losses.dtype).eps)
    return raw / raw.mean()


class _KL(torch.autograd.Function):
    """The gradient is known in closed form, T (P_student − P_teacher) / positions, so it is made
    with the value, some rows at a time, and is all that is kept."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        vocabulary = student.shape[-1]
        rows, targets = student.reshape(-1, vocabulary), teacher.reshape(-1, vocabulary)
        fine = torch.promote_types(student.dtype, torch.float32)
        total = torch.zeros((), dtype=fine, device=student.device)
        gradient = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            mine = (rows[part].to(fine) / temperature).log_softmax(-1)
            theirs = (targets[part].to(fine) / temperature).log_softmax(-1)
            wanted = theirs.exp()
            total += (wanted * (theirs - mine)).sum()
            if gradient is not None:
                gradient[part] = (mine.exp_() - wanted) * (temperature / len(rows))
        if gradient is not None:
            ctx.save_for_backward(gradient.view(student.shape))
        return total * (temperature**2 / len(rows))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype), None, None
