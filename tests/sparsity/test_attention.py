"""Maps over keys: exact budgets, ties, rows without a key, what is kept, closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.errors import StageError
from gossamer.sparsity import attention_macs
from gossamer.sparsity.attention import (
    budget_of,
    gathered_pairs,
    mass,
    probabilities,
    same_tokens,
    tile_density,
    top_keys,
    with_prefix,
)


@pytest.mark.parametrize(
    ("keep", "tokens", "budget"),
    [(0.25, 197, 50), (0.1, 197, 20), (0.05, 197, 10), (0.05, 200, 10), (1.0, 197, 197)],
)
def test_the_budget_is_a_share_rounded_up(keep, tokens, budget):
    assert budget_of(keep, tokens) == budget


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_every_row_keeps_its_budget_whatever_the_ties(keys, budget, values, seed):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(values, (2, 3, keys), generator=draw).float()
    kept = top_keys(scores, budget)
    assert (kept.sum(-1) == min(budget, keys)).all()
    least = scores.masked_fill(~kept, torch.inf).amin(-1)
    most = scores.masked_fill(kept, -torch.inf).amax(-1)
    assert (least >= most).all()  # nothing that was dropped beats what was kept


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(1, 3), st.integers(0, 99))
def test_a_smaller_budget_keeps_a_part_of_what_a_larger_one_does(keys, values, seed):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(values, (4, keys), generator=draw).float()
    for budget in range(1, keys):
        small, large = top_keys(scores, budget), top_keys(scores, budget + 1)
        assert (small <= large).all()


def test_of_equal_scores_the_first_are_kept():
    assert top_keys(torch.zeros(2, 5), 2).tolist() == [[True, True, False, False, False]] * 2
    with pytest.raises(ValueError, match="at least 1"):
        top_keys(torch.zeros(2, 5), 0)


def test_a_row_without_a_key_is_0_and_the_others_add_to_1():
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 2, 5, 4, generator=draw)
    mask = with_prefix(torch.rand(1, 2, 4, 5, generator=draw) > 0.5, 1)
    mask[0, 0, 3] = False
    attention = probabilities(q, k, mask)
    assert (attention[~mask] == 0).all() and attention.isfinite().all()
    sums = attention.sum(-1)
    assert sums[0, 0, 3] == 0 and mask[:, :, 0].all()
    sums[0, 0, 3] = 1
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_leaks_nothing_to_what_is_dropped(dtype):
    q = torch.full((1, 1, 3, 4), -200.0, dtype=dtype)
    k = torch.tensor([[200.0] * 4, [199.0] * 4, [-200.0] * 4], dtype=dtype)[None, None]
    mask = torch.tensor([True, True, False]).expand(1, 1, 3, 3)  # the largest by far is dropped
    attention = probabilities(q, k, mask)
    assert attention.dtype == torch.float32
    assert (attention[..., 2] == 0).all()
    torch.testing.assert_close(attention.sum(-1), torch.ones(1, 1, 3))


def test_mass_is_what_stands_on_the_kept_keys():
    attention = torch.tensor([[0.5, 0.3, 0.2]])
    mask = torch.tensor([[True, False, True]])
    torch.testing.assert_close(mass(attention, mask), torch.tensor([0.7]))


def test_pairs_of_the_tokens_that_are_left():
    scores = torch.arange(2 * 4 * 5).float().reshape(2, 4, 5)  # 2 heads, a class token, 4 patches
    positions = torch.tensor([[0, 1, 3], [0, 2, 4]])
    found = gathered_pairs(scores, positions, 1)
    assert found.shape == (2, 2, 2, 3)
    for image in range(2):
        for head in range(2):
            for row in range(2):
                for column in range(3):
                    there = positions[image, row + 1] - 1, positions[image, column]
                    assert found[image, head, row, column] == scores[head][there]


def test_a_tile_counts_if_it_has_any_entry():
    mask = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
    mask[0, 0, 4, 0] = True  # sticks out over an edge
    mask[0, 0, 0, 0] = mask[0, 0, 1, 1] = True
    assert tile_density(mask, 2) == pytest.approx(2 / 9)
    assert tile_density(mask) == 1.0


def test_another_number_of_tokens_is_refused():
    same_tokens(197, 197, "sparsifiner")
    with pytest.raises(StageError, match=r"197 tokens.*577.*dataset.size"):
        same_tokens(577, 197, "sparsifiner")


def less(tokens, width, heads, layers, budget, density):
    """By how much attention's products are fewer, with the predictor's own."""
    dense = layers * attention_macs.dense(tokens, width)
    predictor = attention_macs.predictor(
        tokens,
        width,
        heads,
        channels=width // heads // 2,
        basis=tokens // 6,
        kept=8,
        density=density,
    )
    products = attention_macs.budgeted(tokens, width, budget, 1)
    return dense, 1 - layers * (products + predictor) / dense


@pytest.mark.parametrize(
    ("budget", "density", "share"),
    [(50, 0.30, 0.480), (50, 0.17, 0.488), (20, 0.30, 0.632), (10, 0.30, 0.682), (10, 0.17, 0.690)],
)
@pytest.mark.parametrize("width", [192, 384, 768])
def test_the_closed_form_gives_the_published_reductions(width, budget, density, share):
    dense, saved = less(197, width, width // 64, 12, budget, density)
    assert saved == pytest.approx(share, abs=5e-4)
    if width == 384:
        assert dense / 1e6 == pytest.approx(357.7, abs=0.05)


def test_linformer_saves_as_much_as_its_rank_says():
    assert attention_macs.low_rank(197, 384, 49) / attention_macs.dense(197, 384) == pytest.approx(
        2 * 49 / 197
    )
    assert math.isclose(attention_macs.budgeted(197, 384, 197, 1), attention_macs.dense(197, 384))
