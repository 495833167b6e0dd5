"""Intervals against scipy, which the command itself has no time to import."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gossamer.records.intervals import mcnemar, mean_interval, paired_p, t_quantile


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_t_quantiles_are_scipys(level: float) -> None:
    for freedom in [*range(1, 40), 500, 501]:
        golden = stats.t.ppf((1 + level) / 2, freedom)
        assert t_quantile(level, freedom) == pytest.approx(golden, rel=1e-9)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_the_interval_is_that_of_a_t_test(values: list[float]) -> None:
    mean, half = mean_interval(values)
    error = stats.sem(values)
    golden = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error) if error else None
    assert half is not None
    if golden is not None and error > 1e-9:
        assert (mean - half, mean + half) == pytest.approx(golden, rel=1e-6, abs=1e-6)


def test_a_single_value_has_no_interval() -> None:
    assert mean_interval([0.5]) == (0.5, None)


@given(st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 3)), min_size=2, max_size=20))
def test_the_p_value_is_that_of_a_paired_t_test(differences: list[float]) -> None:
    found = paired_p(differences)
    if found is None:
        assert max(differences) - min(differences) < 1e-8
    elif stats.sem(differences) > 1e-9:
        golden = stats.ttest_1samp(differences, 0).pvalue
        assert found == pytest.approx(golden, rel=1e-6, abs=1e-12)


def test_equal_differences_and_a_single_pair_have_no_p() -> None:
    assert paired_p([0.5]) is None
    assert paired_p([0.0, 0.0]) is None and paired_p([0.25, 0.25, 0.25]) is None
    assert paired_p([0.79 - 0.8, 0.69 - 0.7, 0.89 - 0.9]) is None  # equal but for rounding


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemars_p_is_the_exact_binomial_one(better: int, worse: int) -> None:
    total = better + worse
    golden = stats.binomtest(better, total, 0.5).pvalue if total else 1.0
    assert mcnemar(better, worse) == pytest.approx(golden, rel=1e-9)
    assert mcnemar(better, worse) == mcnemar(worse, better)


def test_mcnemar_of_many_rows_is_a_number() -> None:
    assert 0 < mcnemar(9_000, 10_000) < 1e-10
