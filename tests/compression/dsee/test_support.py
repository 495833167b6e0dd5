"""Ω: its size, whatever the weight; the decomposition behind it; its reproducibility."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.compression.dsee.support import find_support, grebsmo
from gossamer.errors import ConfigError, StageError

RULES = ("grebsmo", "magnitude", "random")


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spiked(shape=(96, 64), rank: int = 3, spikes: int = 20, seed: int = 0):
    """Low rank + noise + spikes of ten standard deviations; returns the matrix and the spikes."""
    g = draw(seed)
    out, width = shape
    low = torch.randn(out, rank, generator=g) @ torch.randn(rank, width, generator=g)
    W = low + 0.01 * torch.randn(out, width, generator=g)
    where = torch.randperm(out * width, generator=g)[:spikes]
    signs = torch.randint(0, 2, (spikes,), generator=g) * 2.0 - 1
    W.view(-1)[where] += 10 * low.std() * signs
    return W, set(where.tolist())


@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from(RULES),
    kind=st.sampled_from(["normal", "ties", "constant", "zero", "low rank", "nearly zero"]),
    out=st.integers(4, 24),
    width=st.integers(4, 24),
    entries=st.integers(0, 16),
    seed=st.integers(0, 99),
)
def test_support_has_exactly_n_distinct_positions_whatever_the_weight(  # T4
    rule, kind, out, width, entries, seed
):
    W = {
        "normal": torch.randn(out, width, generator=draw(seed)),
        "ties": torch.randint(-2, 3, (out, width), generator=draw(seed)).float(),
        "constant": torch.ones(out, width),
        "zero": torch.zeros(out, width),
        "low rank": torch.randn(out, 2, generator=draw(seed)) @ torch.ones(2, width),
        "nearly zero": torch.full((out, width), 1e-38),
    }[kind]
    support = find_support(rule, W, entries, 4, draw(seed))
    assert support.dtype == torch.int64 and support.shape == (entries,)
    assert support.unique().numel() == entries
    assert bool((support[1:] > support[:-1]).all())
    if entries:
        assert int(support[0]) >= 0 and int(support[-1]) < out * width


def test_support_of_a_matrix_of_exactly_the_decompositions_rank_has_n_entries():  # T4, trap 6
    W = torch.randn(96, 16, generator=draw(1)) @ torch.randn(16, 80, generator=draw(2))
    assert find_support("grebsmo", W, 64, 16, draw()).unique().numel() == 64


def test_magnitude_takes_the_largest_weights_and_the_lower_index_of_equal_ones():
    W = torch.tensor([[1.0, -3.0, 2.0], [2.0, 0.0, -2.0]])
    assert find_support("magnitude", W, 3, 1, draw()).tolist() == [1, 2, 3]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), entries=st.integers(0, 40), rank=st.integers(1, 12))
def test_grebsmo_factors_are_orthonormal_sparse_and_its_error_never_rises(  # T5
    seed, entries, rank
):
    W = torch.randn(30, 20, generator=draw(seed), dtype=torch.float64)
    parts = grebsmo(W, rank, entries, draw(seed), increment=3)
    identity = torch.eye(parts.U.shape[1], dtype=W.dtype)
    torch.testing.assert_close(parts.U.T @ parts.U, identity)
    assert parts.V.shape == (parts.U.shape[1], 20) and parts.U.shape[1] <= rank
    assert int(parts.S.count_nonzero()) <= entries
    for before, after in zip(parts.errors, parts.errors[1:], strict=False):
        assert after <= before + 1e-12
    torch.testing.assert_close(
        float((W - parts.U @ parts.V - parts.S).norm()), parts.errors[-1], atol=1e-9, rtol=0
    )


def test_grebsmo_error_comes_near_the_best_of_its_rank():
    W = torch.randn(60, 50, generator=draw(3), dtype=torch.float64)
    best = torch.linalg.svdvals(W)[8:].norm()  # Eckart and Young: the least error without S
    parts = grebsmo(W, 8, 0, draw(), inner=200, tolerance=1e-9)
    assert best <= parts.errors[-1] < 1.01 * best


@pytest.mark.parametrize("seed", range(5))
def test_grebsmo_finds_the_spikes_on_a_low_rank_matrix(seed):  # T5
    W, spikes = spiked(seed=seed)
    support = set(find_support("grebsmo", W, 24, 4, draw(seed)).tolist())
    assert len(support & spikes) >= 0.95 * len(spikes)


def test_spikes_that_are_smaller_than_the_low_rank_part_are_missed_by_magnitude_only():
    g = draw(0)
    low = torch.randn(96, 3, generator=g) @ torch.randn(3, 64, generator=g)
    where = torch.randperm(low.numel(), generator=g)[:20]
    W = low.clone()
    W.view(-1)[where] += 1.5 * low.std()
    spikes = set(where.tolist())
    found = {rule: set(find_support(rule, W, 20, 4, draw()).tolist()) for rule in RULES[:2]}
    assert len(found["grebsmo"] & spikes) >= 19
    assert len(found["magnitude"] & spikes) <= 10


@pytest.mark.parametrize("rule", RULES)
def test_support_repeats_with_its_generator(rule):  # T6
    W = torch.randn(40, 30, generator=draw(5))
    first = find_support(rule, W, 10, 8, draw(1))
    assert torch.equal(first, find_support(rule, W, 10, 8, draw(1)))
    if rule == "random":
        assert not torch.equal(first, find_support(rule, W, 10, 8, draw(2)))


def test_a_768_wide_matrix_is_decomposed_in_seconds():
    W = 0.04 * torch.randn(768, 768, generator=draw(0))
    began = time.process_time()
    assert find_support("grebsmo", W, 64, 16, draw()).numel() == 64
    assert time.process_time() - began < 10  # CPU seconds; one takes well below 1 by itself


def test_a_weight_that_is_not_finite_and_an_unknown_rule_are_refused():
    with pytest.raises(StageError, match="not finite"):
        find_support("magnitude", torch.tensor([[1.0, float("nan")]]), 1, 1, draw())
    with pytest.raises(ConfigError, match=r"support='omp'.*magnitude"):
        find_support("omp", torch.ones(2, 2), 1, 1, draw())
