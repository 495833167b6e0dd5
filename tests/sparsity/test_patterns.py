"""Patterns: parsing, exact counts, ties by index, N:M against brute force."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.errors import ConfigError, StageError
from gossamer.sparsity import patterns
from gossamer.sparsity.patterns import keep_top, parse

# few distinct values, so that ties are the rule; zeros and all-equal scores among them
tied = st.integers(0, 3).map(float)
settings.register_profile("sparsity", max_examples=150, deadline=None)
settings.load_profile("sparsity")


def matrix(draw, rows: int, columns: int) -> torch.Tensor:
    kind = draw(st.sampled_from(["tied", "equal", "zero", "distinct"]))
    if kind == "tied":
        values = draw(st.lists(tied, min_size=rows * columns, max_size=rows * columns))
        return torch.tensor(values).reshape(rows, columns)
    if kind == "distinct":
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        return torch.randn(rows, columns, generator=generator)
    return torch.full((rows, columns), 0.0 if kind == "zero" else 1.5)


@given(st.data())
def test_keep_top_keeps_the_first_of_equals_and_exactly_so_many(data):
    score = matrix(data.draw, data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7)))
    keep = data.draw(st.integers(0, score.numel()))
    values = score.flatten().tolist()
    expected = sorted(range(len(values)), key=lambda index: (-values[index], index))[:keep]
    assert keep_top(score, keep).flatten().nonzero().flatten().tolist() == sorted(expected)


@given(st.data())
def test_every_pattern_keeps_exactly_the_units_asked_for(data):
    text = data.draw(st.sampled_from(["unstructured", "block:2x3", "block:1x6", "row", "column"]))
    pattern = parse(text)
    score = matrix(data.draw, 2 * data.draw(st.integers(1, 4)), 6 * data.draw(st.integers(1, 3)))
    shape = tuple(score.shape)
    keep = data.draw(st.integers(0, pattern.units(shape)))
    mask = pattern.mask(score, keep)
    assert mask.dtype == torch.bool and mask.shape == score.shape
    assert int(mask.sum()) == keep * pattern.unit_size(shape)
    kept_per_unit = pattern.unit_scores(mask.float())
    assert set(kept_per_unit.flatten().tolist()) <= {0.0, float(pattern.unit_size(shape))}
    scores = pattern.unit_scores(score.double())
    chosen = kept_per_unit > 0
    if 0 < keep < scores.numel():
        assert scores[chosen].min() >= scores[~chosen].max() - 1e-5


@given(st.data())
def test_n_of_m_is_the_best_choice_of_every_group_by_brute_force(data):
    m = data.draw(st.integers(2, 5))
    n = data.draw(st.integers(1, m - 1))
    score = matrix(data.draw, data.draw(st.integers(1, 3)), m * data.draw(st.integers(1, 3)))
    mask = parse(f"{n}:{m}").mask(score, None)
    for group, kept in zip(score.reshape(-1, m).tolist(), mask.reshape(-1, m), strict=True):
        # combinations come in index order and max keeps the first, so ties go to the lower index
        best = max(
            itertools.combinations(range(m), n), key=lambda pick: sum(group[i] for i in pick)
        )
        assert kept.nonzero().flatten().tolist() == list(best)


@given(st.data())
def test_comparing_and_sorting_a_group_give_the_same_mask(data):
    m = data.draw(st.integers(2, 16))
    pattern = parse(f"{data.draw(st.integers(1, m - 1))}:{m}")
    score = matrix(data.draw, data.draw(st.integers(1, 3)), m * data.draw(st.integers(1, 3)))
    score[score == 1] = float("inf")
    compared = pattern.mask(score, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "COMPARED", 0)
        assert torch.equal(pattern.mask(score, None), compared)


def test_infinite_scores_of_both_signs_are_numbers():
    score = torch.tensor([[float("inf"), float("-inf"), 0.0, 1.0]])
    assert parse("2:4").mask(score, None).tolist() == [[True, False, False, True]]


@given(st.data())
def test_masks_do_not_change_with_the_scale_of_the_scores(data):
    pattern = parse(
        data.draw(st.sampled_from(["unstructured", "2:4", "block:2x2", "row", "column"]))
    )
    score = matrix(data.draw, 4, 8)
    keep = None if pattern.m else data.draw(st.integers(0, pattern.units((4, 8))))
    scale = 2.0 ** data.draw(st.integers(-10, 10))
    assert torch.equal(pattern.mask(score, keep), pattern.mask(score * scale, keep))


def test_unit_scores_are_the_sums_over_each_unit():
    score = torch.arange(8.0).reshape(2, 4)  # [[0 1 2 3], [4 5 6 7]]
    assert parse("block:2x2").unit_scores(score).tolist() == [[10.0, 18.0]]
    assert parse("row").unit_scores(score).tolist() == [[6.0], [22.0]]
    assert parse("column").unit_scores(score).tolist() == [[4.0, 6.0, 8.0, 10.0]]
    assert parse("2:4").unit_scores(score) is score


def test_n_of_m_runs_along_the_input_features():
    score = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    assert parse("2:4").mask(score, None).tolist() == [
        [True, True, False, False],
        [False, False, True, True],
    ]


def test_a_pattern_knows_its_density_and_its_units():
    assert parse("2:4").density == 0.5 and parse("1:16").density == 1 / 16
    assert parse("unstructured").density is None and parse("row").density is None
    assert parse("block:2x4").units((4, 8)) == 4 and parse("row").units((4, 8)) == 4
    assert parse("column").units((4, 8)) == 8 and parse("2:4").units((4, 8)) == 32
    assert str(parse("block:2x4")) == "block:2x4"


@pytest.mark.parametrize(
    "text, shape, words",
    [
        ("2:4", (8, 6), "6 input features, not a multiple of 4"),
        ("block:3x4", (8, 8), "8x8 does not divide into 3x4 blocks"),
        ("row", (8, 8, 3), "3 dimensions"),
    ],
)
def test_a_shape_that_cannot_have_the_pattern_is_a_problem_in_words(text, shape, words):
    assert words in parse(text).problem(shape)
    with pytest.raises(ValueError, match=words):
        parse(text).mask(torch.zeros(shape), None)


@pytest.mark.parametrize("text", ["unstructured", "2:4", "block:2x2", "row", "column"])
def test_a_shape_that_fits_has_no_problem(text):
    assert parse(text).problem((8, 8)) is None


@pytest.mark.parametrize(
    "text", ["4:2", "2:2", "0:4", "block:0x4", "block:4", "rows", "", "2 : 4", 124, None]
)
def test_a_text_that_names_no_pattern_is_a_config_error_that_says_what_does(text):
    with pytest.raises(ConfigError, match="pattern="):
        parse(text)
    if text == "rows":
        with pytest.raises(ConfigError, match="did you mean row"):
            parse(text)


@pytest.mark.parametrize("text, keep", [("unstructured", 3), ("2:4", None), ("row", 1)])
def test_a_score_that_is_not_a_number_stops_the_pruning(text, keep):
    with pytest.raises(StageError, match="NaN"):
        parse(text).mask(torch.full((2, 4), float("nan")), keep)


@pytest.mark.parametrize(
    "text, keep", [("unstructured", 9), ("unstructured", -1), ("row", None), ("2:4", 3)]
)
def test_a_count_that_the_pattern_cannot_keep_is_refused(text, keep):
    with pytest.raises(ValueError, match=r"keep|kept"):
        parse(text).mask(torch.ones(2, 4), keep)
