"""The three levels of distillation against values computed by hand."""

import math

import pytest
import torch
from torch.nn import functional

from gossamer.distillation import Levels, distillation_aware, feature_losses

# the models agree on samples 0 and 2
STUDENT = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], requires_grad=True)
TEACHER = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
LABELS = torch.tensor([0, 0, 1])
MINE = {"late": torch.tensor([[[1.0, 2.0]], [[5.0, 5.0]], [[0.0, 4.0]]])}  # (B, tokens, channels)
THEIRS = {"late": torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]])}
STUDENT_OUTPUT = {"logits": STUDENT, "features": MINE}
TEACHER_OUTPUT = {"logits": TEACHER, "features": THEIRS}


def hard():
    return functional.cross_entropy(STUDENT, LABELS)


def test_maps_count_where_both_models_agree():
    agree = torch.tensor([True, False, True])
    expected = ((1 + 4) / 2 + (0 + 16) / 2) / 3  # the mean over all three samples
    assert feature_losses(MINE, THEIRS, agree).tolist() == pytest.approx([expected])


def test_where_no_sample_agrees_there_is_no_feature_loss_and_no_nan():
    losses = feature_losses(MINE, THEIRS, torch.zeros(3, dtype=torch.bool))
    assert losses.tolist() == [0.0]


def test_the_halves_of_a_batch_have_the_mean_loss_of_the_whole():
    draw = torch.Generator().manual_seed(0)
    mine, theirs = ({"a": torch.randn(8, 3, 4, generator=draw)} for _ in range(2))
    agree = torch.rand(8, generator=draw) < 0.4

    def part(rows):
        return feature_losses({"a": mine["a"][rows]}, {"a": theirs["a"][rows]}, agree[rows])

    halves = (part(slice(0, 4)) + part(slice(4, 8))) / 2
    torch.testing.assert_close(halves, feature_losses(mine, theirs, agree))


def test_the_terms_are_the_hand_computed_ones():
    levels = Levels(alpha=1.0, beta=10.0, gamma=5.0)
    terms, seen = levels.terms(hard(), STUDENT_OUTPUT, TEACHER_OUTPUT)

    def softmax(a, b):
        return math.exp(a) / (math.exp(a) + math.exp(b))

    rows = [((2, 0), (1, 0)), ((0, 1), (1, 0)), ((0, 3), (0, 1))]
    soft = 0.0
    for mine, theirs in rows:
        for k in range(2):
            p, q = softmax(theirs[k], theirs[1 - k]), softmax(mine[k], mine[1 - k])
            soft += p * math.log(p / q) / 3
    ce = -sum(math.log(softmax(*pair)) for pair in [(2, 0), (0, 1), (3, 0)]) / 3
    assert float(terms["task"]) == pytest.approx(ce, rel=1e-6)
    assert float(terms["soft"]) == pytest.approx(10 * soft, rel=1e-6)
    assert float(terms["feature"]) == pytest.approx(5 * 10.5 / 3, rel=1e-6)
    assert seen.tolist() == pytest.approx([10.5 / 3])


def test_without_a_teachers_terms_the_loss_is_cross_entropy():
    levels = Levels(alpha=1.0, beta=0.0, gamma=0.0)
    terms, _ = levels.terms(hard(), STUDENT_OUTPUT, TEACHER_OUTPUT)
    assert terms.keys() == {"task"} and torch.equal(terms["task"], hard())
    assert not levels.taught


def test_a_student_that_is_its_teacher_has_no_soft_and_no_feature_loss():
    terms, _ = Levels().terms(hard(), STUDENT_OUTPUT, STUDENT_OUTPUT)
    assert float(terms["soft"]) == pytest.approx(0, abs=1e-6)
    assert float(terms["feature"]) == 0


def test_unsupervised_the_target_is_the_teachers_class():
    levels = Levels(beta=0.0, gamma=0.0, hard_target="teacher")
    terms, _ = levels.terms(None, STUDENT_OUTPUT, TEACHER_OUTPUT)
    expected = functional.cross_entropy(STUDENT, TEACHER.argmax(-1))
    assert torch.equal(terms["task"], expected) and levels.taught


def test_weights_of_maps_scale_their_terms_but_not_what_is_seen():
    two = {"a": MINE["late"], "b": 2 * MINE["late"]}
    none = {"a": THEIRS["late"], "b": THEIRS["late"]}
    outputs = {"logits": STUDENT, "features": two}, {"logits": TEACHER, "features": none}
    terms, seen = Levels(gamma=1.0).terms(hard(), *outputs, torch.tensor([0.5, 1.5]))
    assert seen.tolist() == pytest.approx([3.5, 14.0])
    assert float(terms["feature"]) == pytest.approx(0.5 * 3.5 + 1.5 * 14.0)


def test_no_gradient_reaches_the_teacher():
    theirs = TEACHER.clone().requires_grad_()
    maps = {"late": THEIRS["late"].clone().requires_grad_()}
    terms, _ = Levels().terms(hard(), STUDENT_OUTPUT, {"logits": theirs, "features": maps})
    torch.stack(list(terms.values())).sum().backward()
    assert theirs.grad is None and maps["late"].grad is None
    assert STUDENT.grad is not None


@pytest.mark.parametrize("kind", ["inverse", "softmax"])
def test_factors_have_the_mean_1_and_fall_as_the_loss_rises(kind):
    weights = distillation_aware(torch.tensor([0.1, 0.4, 0.2]), kind)
    assert float(weights.mean()) == pytest.approx(1)
    assert weights[0] > weights[2] > weights[1] > 0


def test_the_inverse_is_the_written_formula():
    weights = distillation_aware(torch.tensor([1.0, 3.0]), "inverse")
    assert weights.tolist() == pytest.approx([1.5, 0.5], rel=1e-5)


@pytest.mark.parametrize("kind", ["none", "inverse", "softmax"])
def test_factors_are_finite_where_a_loss_is_0(kind):
    weights = distillation_aware(torch.tensor([0.0, 1.0]), kind)
    assert bool(weights.isfinite().all()) and float(weights.mean()) == pytest.approx(1)


def test_factors_can_be_switched_off():
    assert distillation_aware(torch.tensor([0.1, 9.0]), "none").tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"alpha": -1.0}, "alpha=-1.0"),
        ({"alpha": 0.0, "beta": 0.0, "gamma": 0.0}, "nothing to learn from"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"hard_target": "label"}, "hard_target=label"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, word):
    assert any(word in line for line in Levels(**settings).problems())
