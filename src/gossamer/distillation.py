"""Learning from a teacher: losses between two models' outputs for the same batch.

A teacher never gets a gradient. What costs memory is a vocabulary: the logits of 4096 tokens over
32,000 words are half a GB in float32, so a loss here keeps one tensor of that size, not four.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS = 1024  # positions that are looked at together


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
