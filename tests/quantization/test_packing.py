"""Integers in few bytes and back, in every pattern and width."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.quantization.packing import (
    PATTERNS,
    bits_stored,
    holds,
    pack,
    stored_shapes,
    tightest,
    unpack,
)
from gossamer.sparsity.patterns import parse


def drawn(rows, columns, bits, pattern, seed, zeros=0.0):
    """Integers over the whole range that hold the pattern, some of the kept ones zero."""
    draw = torch.Generator().manual_seed(seed)
    top = 2 ** (bits - 1) - 1
    whole = torch.randint(-top, top + 1, (rows, columns), generator=draw, dtype=torch.int8)
    whole[torch.rand(rows, columns, generator=draw) < zeros] = 0
    if pattern != "dense":
        score = torch.rand(rows, columns, generator=draw)
        whole = whole * parse(pattern).mask(score, None)
    return whole


def unpacked(whole, bits, pattern):
    stored = pack(whole, bits, pattern)
    again = unpack(stored["values"], stored.get("positions"), tuple(whole.shape), bits, pattern)
    return stored, again


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(2, 8),
    st.sampled_from(PATTERNS),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 2**20),
)
def test_what_is_packed_comes_back(rows, groups, bits, pattern, zeros, seed):
    columns = {"dense": groups, "2:4": 4 * groups, "pairwise:4:8": 8 * groups}[pattern]
    whole = drawn(rows, columns, bits, pattern, seed, zeros)
    stored, again = unpacked(whole, bits, pattern)
    assert again.dtype is torch.int8 and torch.equal(again, whole)
    sizes = {name: len(tensor) for name, tensor in stored.items()}
    assert sizes == stored_shapes(tuple(whole.shape), bits, pattern)
    assert all(tensor.dtype is torch.uint8 for tensor in stored.values())
    spare = 8 * sum(sizes.values()) - bits_stored(tuple(whole.shape), bits, pattern)
    assert 0 <= spare < 8 * len(sizes)
    assert holds(whole, pattern)
    best = tightest(whole, bits)
    assert torch.equal(unpacked(whole, bits, best)[1], whole)


@pytest.mark.parametrize(
    ("bits", "pattern", "group", "per_group"),
    [(8, "2:4", 4, 20), (4, "pairwise:4:8", 8, 20), (8, "dense", 4, 32), (4, "dense", 8, 32)],
)
def test_a_group_takes_twenty_bits_where_dense_takes_thirty_two(bits, pattern, group, per_group):
    whole = drawn(32, 64, bits, pattern, 0)
    stored = pack(whole, bits, pattern)
    taken = 8 * sum(t.numel() * t.element_size() for t in stored.values())
    assert taken == whole.numel() // group * per_group
    assert bits_stored((32, 64), bits, pattern) == taken


def test_the_bytes_are_hand_computed():
    whole = torch.tensor([[0, 5, 0, -1], [0, 0, 0, 0]], dtype=torch.int8)
    stored = pack(whole, 8, "2:4")
    assert stored["values"].tolist() == [5, 255, 0, 0]
    assert stored["positions"].tolist() == [0b01_00_11_01]  # 1, 3, then 0, 1 of a group of zeros
    pairs = torch.tensor([[0, 0, 7, -7, 0, 0, 0, 1]], dtype=torch.int8)
    stored = pack(pairs, 4, "pairwise:4:8")
    assert stored["values"].tolist() == [0x97, 0x10]
    assert stored["positions"].tolist() == [0b11_01]


def test_the_tightest_pattern_is_one_that_holds():
    two_of_four, pairs = (drawn(8, 16, 4, p, 1) for p in ("2:4", "pairwise:4:8"))
    dense = torch.ones(8, 16, dtype=torch.int8)
    assert tightest(dense, 8) == tightest(dense, 4) == "dense"
    assert tightest(two_of_four, 8) == tightest(two_of_four, 4) == "2:4"
    assert tightest(pairs, 8) == tightest(pairs, 4) == "pairwise:4:8"
    assert tightest(two_of_four[:, :6], 8) == "dense"  # no multiple of four
    for pattern in ("2:4", "pairwise:4:8"):
        whole = drawn(8, 16, 8, pattern, 2)
        assert holds(whole, pattern) == parse(pattern).holds(whole)


def test_what_does_not_fit_is_refused():
    dense = torch.ones(2, 8, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"pattern=2:4: integers \(2, 8\) do not hold it"):
        pack(dense, 8, "2:4")
    with pytest.raises(ValueError, match="bits=4: too few for 8"):
        pack(8 * dense, 4, "dense")
    with pytest.raises(ValueError, match="too few for 128"):
        pack(-128 * dense, 8, "dense")
    with pytest.raises(ValueError, match=r"pattern='1:4': integers are packed dense, 2:4"):
        holds(dense, "1:4")
