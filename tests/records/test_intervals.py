"""Intervals against scipy, which the command itself has no time to import."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gossamer.records.intervals import mean_interval, t_quantile


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
