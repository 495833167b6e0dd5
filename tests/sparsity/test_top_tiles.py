"""A budget spent in whole tiles: which, how many, and what is left of the map at their size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.sparsity.attention import (
    TILE,
    tile_density,
    tiled_budget,
    top_keys,
    top_tiles,
    with_prefix,
)


def scores(tokens: int, prefix: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 2, tokens - prefix, tokens, generator=generator)


@pytest.mark.parametrize("share", [0.125, 0.25, 0.5])
def test_whole_tiles_have_the_density_that_was_asked_and_single_keys_nearly_1(share):
    tokens = 8 * TILE
    budget = round(share * tokens)
    whole = top_tiles(scores(tokens, 0), budget, TILE)
    single = top_keys(scores(tokens, 0), budget)
    assert tile_density(whole) == share
    assert tile_density(single) > 0.99
    assert whole.float().mean() == single.float().mean() == share  # of elements, both as asked


def test_a_class_token_makes_the_first_block_of_queries_dense():
    tokens = 8 * TILE
    whole = with_prefix(top_tiles(scores(tokens, 1), TILE, TILE, prefix=1), 1)
    assert tile_density(whole) == (8 + 7 * 1) / 64


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(4, 40),
    prefix=st.integers(0, 2),
    tile=st.integers(1, 9),
    budget=st.integers(1, 45),
    seed=st.integers(0, 1000),
)
def test_each_block_of_queries_gets_the_tiles_of_the_largest_sums(
    tokens, prefix, tile, budget, seed
):
    given = scores(tokens, prefix, seed)
    kept = top_tiles(given, budget, tile, prefix)
    assert kept.shape == given.shape
    count = math.ceil(tokens / tile)
    columns = [range(j * tile, min(tokens, (j + 1) * tile)) for j in range(count)]
    wanted = min(count, math.ceil(budget / tile))
    for block in range(count):
        rows = range(max(0, block * tile - prefix), min(tokens, (block + 1) * tile) - prefix)
        if not rows:
            continue
        sums = [
            float(given[0, 1, rows.start : rows.stop, list(of)].double().sum()) for of in columns
        ]
        best = sorted(range(count), key=lambda j: -sums[j])[:wanted]
        expected = torch.zeros(tokens, dtype=torch.bool)
        for j in best:
            expected[list(columns[j])] = True
        for row in rows:
            assert torch.equal(kept[0, 1, row], expected)
    assert int(kept.sum(-1).max()) <= tiled_budget(budget, tokens, tile)


def test_of_equal_tiles_the_first_are_kept():
    kept = top_tiles(torch.ones(1, 1, 10, 10), 4, 3)
    assert torch.equal(kept.any(-2)[0, 0], torch.arange(10) < 6)


def test_tiles_of_one_key_are_the_largest_keys():
    given = scores(20, 1)
    assert torch.equal(top_tiles(given, 6, 1, prefix=1), top_keys(given, 6))


def test_a_smaller_budget_keeps_a_part_of_a_larger_one_and_none_is_refused():
    given = scores(50, 1)
    small, large = (top_tiles(given, budget, 8, prefix=1) for budget in (9, 30))
    assert bool((small <= large).all()) and int(large.sum()) > int(small.sum())
    with pytest.raises(ValueError, match="at least 1"):
        top_tiles(given, 0, 8)


def test_sums_of_half_precision_are_taken_in_floats():
    given = torch.full((1, 1, 256, 256), 1.0, dtype=torch.float16)
    given[..., 128:] = 1.01  # 128 * 128 of these overflow float16
    assert torch.equal(top_tiles(given, 128, 128), given > 1)
