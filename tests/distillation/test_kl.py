"""The divergence from a teacher: its direction, its scale, its gradients (T16 of CAST's notes)."""

import math

import pytest
import torch

from gossamer import distillation
from gossamer.distillation import kl


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_a_model_is_no_distance_from_itself():
    for dtype in (torch.float32, torch.bfloat16):
        one = logits(3, 5, 7).to(dtype)
        assert kl(one, one) == 0 and kl(one, one, temperature=2.0) == 0


def test_the_teachers_distribution_is_the_one_that_is_averaged_over():
    teacher = torch.tensor([0.5, 0.5]).log()
    student = torch.tensor([0.25, 0.75]).log()
    forward = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    backward = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert float(kl(student, teacher)) == pytest.approx(forward, abs=1e-6)
    assert float(kl(teacher, student)) == pytest.approx(backward, abs=1e-6)
    assert abs(forward - backward) > 1e-2


def test_a_temperature_softens_both_and_is_multiplied_back_squared():
    student, teacher = logits(4, 6), logits(4, 6, seed=1)
    expected = 9 * kl(student / 3, teacher / 3)
    assert torch.allclose(kl(student, teacher, temperature=3.0), expected)


def test_it_is_the_mean_over_all_positions():
    student, teacher = logits(2, 3, 5), logits(2, 3, 5, seed=1)
    each = [kl(student[i, j], teacher[i, j]) for i in range(2) for j in range(3)]
    assert torch.allclose(kl(student, teacher), torch.stack(each).mean())


def test_the_gradient_is_that_of_the_value_and_the_teacher_gets_none():
    student, teacher = logits(4, 6).requires_grad_(), logits(4, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: 3 * kl(x, teacher, 2.0), [student])
    kl(student, teacher).backward()
    assert student.grad is not None and teacher.grad is None


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_looking_at_some_rows_at_a_time_changes_nothing(rows, monkeypatch):
    student, teacher = logits(7, 6).requires_grad_(), logits(7, 6, seed=1)
    whole = kl(student, teacher)
    (gradient,) = torch.autograd.grad(whole, student)
    monkeypatch.setattr(distillation, "ROWS", rows)
    again = kl(student, teacher)
    assert torch.allclose(again, whole, rtol=1e-14)
    assert torch.allclose(torch.autograd.grad(again, student)[0], gradient, rtol=1e-14)


def test_half_precision_logits_are_compared_in_float32():
    student, teacher = logits(8, 50).bfloat16(), logits(8, 50, seed=1).bfloat16()
    value = kl(student, teacher)
    assert value.dtype == torch.float32
    assert torch.allclose(value, kl(student.float(), teacher.float()))
    student.requires_grad_()
    kl(student, teacher).backward()
    assert student.grad.dtype == torch.bfloat16


def test_outputs_that_are_not_alike_are_refused_in_words():
    with pytest.raises(ValueError, match="same vocabulary"):
        kl(torch.zeros(2, 3), torch.zeros(2, 4))
