"""Distributions: exact budgets, one threshold by brute force, ERK with saturated layers."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gossamer.sparsity.distributions import erk, over_group, uniform
from gossamer.sparsity.patterns import parse

settings.register_profile("sparsity", max_examples=150, deadline=None)
settings.load_profile("sparsity")
sparsities = st.floats(0.0, 1.0) | st.sampled_from([0.0, 0.2, 0.5, 0.8, 0.9, 1.0])
side = st.integers(1, 6)


@st.composite
def groups(draw, rows: int = 1, columns: int = 1):
    """Scores of 1–5 layers with many ties; sides are multiples of `rows` and `columns`."""
    shapes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    top = draw(st.sampled_from([1, 3, 1000]))  # 1: all scores are zero
    return {
        f"layer{index}": torch.randint(top, (rows * a, columns * b), generator=generator).float()
        for index, (a, b) in enumerate(shapes)
    }


@given(groups(), sparsities)
def test_one_threshold_over_a_group_is_the_brute_force_one(scores, sparsity):
    pattern = parse("unstructured")
    ranked = [
        (-value, layer, index, name)
        for layer, (name, score) in enumerate(scores.items())
        for index, value in enumerate(score.flatten().tolist())
    ]
    keep = len(ranked) - round(sparsity * len(ranked))
    expected = {
        name: torch.zeros(score.numel(), dtype=torch.bool) for name, score in scores.items()
    }
    for _, _, index, name in sorted(ranked)[:keep]:
        expected[name][index] = True
    counts = over_group(scores, pattern, sparsity)
    for name, score in scores.items():
        assert torch.equal(pattern.mask(score, counts[name]).flatten(), expected[name])


@given(groups(), sparsities)
def test_one_threshold_drops_exactly_the_share_of_the_group(scores, sparsity):
    total = sum(score.numel() for score in scores.values())
    kept = sum(over_group(scores, parse("unstructured"), sparsity).values())
    assert total - kept == round(sparsity * total)


@given(groups(2, 3), sparsities, st.sampled_from(["block:2x3", "row", "column"]))
@example({"a": torch.zeros(2, 3)}, 0.25, "row")  # half a row of three: a tie
def test_units_of_unlike_size_meet_the_budget_to_half_of_a_unit(scores, sparsity, text):
    pattern = parse(text)
    size = {name: pattern.unit_size(tuple(score.shape)) for name, score in scores.items()}
    total = sum(score.numel() for score in scores.values())
    for distribution in (over_group, erk):
        keep = distribution(scores, pattern, sparsity)
        kept = sum(keep[name] * size[name] for name in scores)
        budgets = (sparsity * total, round(sparsity * total))  # units of one size know no other
        assert min(abs(total - budget - kept) for budget in budgets) <= max(size.values()) / 2
        for name, score in scores.items():
            assert 0 <= keep[name] <= pattern.units(tuple(score.shape))


@given(groups(), sparsities, st.integers(-20, 20))
def test_one_threshold_does_not_change_with_the_scale_of_all_scores(scores, sparsity, power):
    scaled = {name: score * 2.0**power for name, score in scores.items()}
    pattern = parse("unstructured")
    assert over_group(scores, pattern, sparsity) == over_group(scaled, pattern, sparsity)


@given(groups(), sparsities)
def test_uniform_drops_the_same_share_of_every_layer(scores, sparsity):
    keep = uniform(scores, parse("unstructured"), sparsity)
    for name, score in scores.items():
        assert score.numel() - keep[name] == round(sparsity * score.numel())


@given(groups(), sparsities)
def test_erk_keeps_the_budget_of_the_group_exactly_after_rounding(scores, sparsity):
    total = sum(score.numel() for score in scores.values())
    keep = erk(scores, parse("unstructured"), sparsity)
    assert total - sum(keep.values()) == round(sparsity * total)
    assert all(0 <= keep[name] <= score.numel() for name, score in scores.items())


def test_erk_densities_follow_the_formula_where_no_layer_saturates():
    shapes = {"attention": (64, 64), "up": (256, 64), "down": (64, 256)}
    scores = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    keep = erk(scores, parse("unstructured"), 0.8)
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    epsilon = {name: keep[name] / math.prod(shapes[name]) / raw[name] for name in shapes}
    assert max(epsilon.values()) == pytest.approx(min(epsilon.values()), rel=1e-3)


def test_erk_keeps_a_saturated_layer_whole_and_takes_the_rest_from_the_others():
    scores = {
        "small": torch.zeros(4, 4),
        "large": torch.zeros(64, 64),
        "larger": torch.zeros(64, 128),
    }
    keep = erk(scores, parse("unstructured"), 0.5)
    total = sum(score.numel() for score in scores.values())
    assert keep["small"] == 16 and sum(keep.values()) == total - round(0.5 * total)
    assert keep["large"] / 64**2 > keep["larger"] / (64 * 128)


def test_shapes_are_enough_for_uniform_and_erk():
    scores = {"up": torch.empty(8, 4, device="meta"), "down": torch.empty(4, 8, device="meta")}
    assert uniform(scores, parse("row"), 0.5) == {"up": 4, "down": 2}
    assert sum(erk(scores, parse("unstructured"), 0.5).values()) == 32


def test_rows_of_unlike_layers_are_ranked_by_their_score_per_weight():
    scores = {
        "narrow": torch.full((2, 2), 2.0),
        "wide": torch.full((2, 8), 1.0),
    }  # row sums 4 and 8
    assert over_group(scores, parse("row"), 0.8) == {"narrow": 2, "wide": 0}


@pytest.mark.parametrize("distribution", [uniform, over_group, erk])
def test_a_pattern_of_fixed_density_or_an_impossible_sparsity_is_refused(distribution):
    scores = {"up": torch.ones(4, 4)}
    with pytest.raises(ValueError, match="fixes the density"):
        distribution(scores, parse("2:4"), 0.5)
    with pytest.raises(ValueError, match="from 0 to 1"):
        distribution(scores, parse("row"), 1.5)
    assert distribution({}, parse("row"), 0.5) == {}
