"""Scores, static masks and the ledger row of a linear operation."""

import math

import pytest
import torch
from torch import nn

from gossamer.errors import StageError
from gossamer.sparsity import masks, scores
from gossamer.sparsity.ledger import fact
from gossamer.sparsity.patterns import keep_top_of_rows
from gossamer.sparsity.statistics import InputNorm


def test_magnitude_and_gradient_scores_are_hand_computed():
    weight, grad = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[-4.0, 1.0], [9.0, 0.0]])
    assert scores.magnitude(weight).tolist() == [[1.0, 2.0], [0.0, 3.0]]
    assert scores.gradient(weight, grad).tolist() == [[4.0, 2.0], [0.0, 0.0]]


@pytest.mark.parametrize("rows", [[40], [1, 0, 7, 32], [8] * 5])
def test_wandas_score_is_the_formula_over_all_inputs_however_they_come(rows):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=draw, dtype=torch.float64) * torch.arange(1, 7)
    weight = torch.randn(3, 6, generator=draw, dtype=torch.float64)
    seen = InputNorm()
    for part in x.split(rows):
        seen.add(part)
    score = scores.wanda(weight, seen.value())
    for i in range(3):
        for j in range(6):
            want = abs(float(weight[i, j])) * math.sqrt(sum(float(a) ** 2 for a in x[:, j]))
            assert float(score[i, j]) == pytest.approx(want, rel=1e-12)
    # the official code's running mean over rows of text is this up to one factor
    torch.testing.assert_close(score, scores.wanda(weight, seen.mean.sqrt()) * math.sqrt(40))


def test_rows_keep_exactly_their_share_whatever_the_ties():
    score = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 3.0, 2.0, 3.0]])
    kept = keep_top_of_rows(score, 2)
    assert kept.tolist() == [[True, True, False, False], [False, True, False, True]]
    assert not keep_top_of_rows(score, 0).any() and keep_top_of_rows(score, 4).all()
    with pytest.raises(ValueError, match="cannot keep 5 of 4"):
        keep_top_of_rows(score, 5)
    with pytest.raises(StageError, match="NaN"):
        keep_top_of_rows(score * float("nan"), 2)


def test_random_scores_come_from_the_generator_and_leave_the_global_one_alone():
    weight, before = torch.zeros(3, 4), torch.get_rng_state()
    first, again, other = (
        scores.random(weight, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == weight.shape and torch.equal(before, torch.get_rng_state())


def test_scores_carry_no_gradient():
    weight = nn.Parameter(torch.ones(2, 2))
    assert not scores.magnitude(weight).requires_grad
    assert not scores.gradient(weight, weight).requires_grad


def test_a_mask_lives_in_the_state_dict_and_zeroes_the_weight_in_place():
    linear = nn.Linear(4, 2)
    storage = linear.weight.data_ptr()
    mask = torch.tensor([[True, False, True, False], [False, False, True, True]])
    masks.attach(linear, mask)
    assert torch.equal(linear.state_dict()["weight_mask"], mask)
    assert linear.weight.count_nonzero() == 8  # attaching alone changes nothing
    masks.apply(linear)
    assert torch.equal(masks.of_zeros(linear), mask) and linear.weight.data_ptr() == storage
    masks.remove(linear)
    assert set(linear.state_dict()) == {"weight", "bias"} and linear.weight.count_nonzero() == 4


def test_a_new_mask_starts_all_true_also_on_the_meta_device():
    linear, meta = nn.Linear(4, 2), nn.Linear(4, 2, device="meta")
    masks.attach(linear)
    masks.attach(meta)
    assert linear.weight_mask.all() and meta.weight_mask.is_meta


def test_masked_finds_the_modules_that_have_a_mask():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    masks.attach(model[2])
    assert [path for path, _ in masks.masked(model)] == ["2"]


@pytest.mark.parametrize("mask", [torch.ones(2, 4), torch.ones(4, 2, dtype=torch.bool)])
def test_a_mask_of_another_shape_or_dtype_is_refused(mask):
    with pytest.raises(ValueError, match="a mask is bool"):
        masks.attach(nn.Linear(4, 2), mask)


def test_applying_or_removing_a_mask_that_is_not_there_is_an_error():
    for verb in (masks.apply, masks.remove):
        with pytest.raises(AttributeError, match="weight_mask"):
            verb(nn.Linear(4, 2))


def test_a_fact_counts_what_is_in_the_weight():
    weight = torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 3.0]]).half()
    row = fact("up", weight, "unstructured", target=0.5)
    assert (row.name, row.shape, row.density, row.macs, row.bits) == ("up", (2, 4), 3 / 8, 3, 16.0)
    assert row.changed and row.target == 0.5
    left_alone = fact("pooler", weight, skipped="role 'pooler' is not in roles")
    assert not left_alone.changed and left_alone.pattern == "dense" and left_alone.skipped
