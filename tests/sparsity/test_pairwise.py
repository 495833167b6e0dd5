"""Pairwise N:M: parsing, optimality over all choices of pairs, what holds it, how much it keeps."""

import itertools

import pytest
import torch

from gossamer.errors import ConfigError, StageError
from gossamer.sparsity.patterns import parse

PAIRS = parse("pairwise:4:8")


def drawn(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_two_of_four_pairs_stay_whole():
    mask = PAIRS.mask(drawn(5, 24).abs(), None)
    pairs = mask.reshape(-1, 4, 2)
    assert (pairs[..., 0] == pairs[..., 1]).all()
    assert (pairs[..., 0].sum(-1) == 2).all()
    assert PAIRS.density == 0.5


def test_no_other_two_pairs_weigh_more():
    score = drawn(6, 16).abs()
    kept = (score * PAIRS.mask(score, None)).reshape(-1, 4, 2).sum((1, 2))
    pairs = score.reshape(-1, 4, 2).sum(-1)
    best = torch.stack(
        [pairs[:, list(two)].sum(-1) for two in itertools.combinations(range(4), 2)]
    ).amax(0)
    torch.testing.assert_close(kept, best)


def test_ties_and_zeros_still_keep_exactly_half():
    for score in (torch.zeros(3, 16), torch.ones(3, 16)):
        mask = PAIRS.mask(score, None)
        assert (mask.reshape(-1, 8).sum(1) == 4).all()
        assert mask[0, :4].all() and not mask[0, 4:8].any()  # the lower indices


def test_groups_run_along_the_inputs():
    weight = torch.zeros(8, 8)
    weight[0] = torch.arange(8.0)
    assert PAIRS.mask(weight.abs(), None)[0].tolist() == [False] * 4 + [True] * 4


def test_pairs_hold_four_of_eight_but_a_2_4_mask_is_none_of_pairs():
    weight = drawn(16, 32)
    pairs = weight * PAIRS.mask(weight.abs(), None)
    assert PAIRS.holds(pairs) and parse("4:8").holds(pairs) and not parse("2:4").holds(pairs)
    two_four = weight * parse("2:4").mask(weight.abs(), None)
    assert parse("2:4").holds(two_four) and not PAIRS.holds(two_four)
    pairs[0, (pairs[0] == 0).nonzero()[0]] = 1e-6
    assert not PAIRS.holds(pairs)


def test_what_is_no_n_of_m_says_nothing_about_places():
    with pytest.raises(ValueError, match="unstructured"):
        parse("unstructured").holds(torch.zeros(2, 8))


@pytest.mark.parametrize(
    ("pattern", "energy"), [("2:4", 0.868), ("pairwise:4:8", 0.787), ("4:8", 0.897)]
)
def test_a_normal_weight_keeps_the_energy_that_theory_gives(pattern, energy):
    weight = drawn(512, 1024)
    kept = weight * parse(pattern).mask(weight.abs(), None)
    assert float(kept.square().sum() / weight.square().sum()) == pytest.approx(energy, abs=0.005)


@pytest.mark.parametrize("text", ["pairwise:3:8", "pairwise:8:8", "pairwise:2:5", "pairwise:8:4"])
def test_pairs_of_odd_numbers_are_refused(text):
    with pytest.raises(ConfigError, match="pairwise:4:8"):
        parse(text)


def test_a_width_that_eight_does_not_divide_is_refused():
    assert "not a multiple of 8" in PAIRS.problem((4, 12))
    with pytest.raises(ValueError, match="multiple of 8"):
        PAIRS.mask(torch.ones(4, 12), None)


def test_a_score_that_is_no_number_is_refused():
    score = torch.ones(2, 8)
    score[0, 3] = torch.nan
    with pytest.raises(StageError, match="NaN"):
        PAIRS.mask(score, None)
