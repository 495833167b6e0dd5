"""Every way to compute attention with chosen keys gives the same; what one cannot do it says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from gossamer.errors import StageError
from gossamer.sparsity import attention_gather, attention_macs
from gossamer.sparsity.attention_paths import ATTEND
from tests.sparsity.maps import by_hand, chosen, drawn

masked, gather = ATTEND["masked"], ATTEND["gather"]


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 2),
    tokens=st.integers(3, 20),
    prefix=st.integers(0, 2),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_masked_and_gathered_are_what_each_query_computes_by_itself(
    batch, tokens, prefix, share, seed
):
    """Rows of any count, some without a key."""
    q, k, v = drawn(batch, 2, tokens, 8)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(batch, 2, tokens - prefix, tokens, generator=generator) < share
    expected = by_hand(q, k, v, rows, prefix).float()
    for attend in (masked, gather):
        torch.testing.assert_close(attend(q, k, v, rows, prefix, 0.0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("tokens", "budget"), [(197, 50), (130, 1), (128, 128), (300, 30)])
@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_gathered_equals_masked_at_real_sizes(tokens, budget, prefix):
    q, k, v = drawn(1, 2, tokens, 64)
    rows = chosen(1, 2, tokens, prefix, budget)
    rows[0, 1, 7] = False
    expected = masked(q, k, v, rows, prefix, 0.0)
    assert not expected[0, 1, prefix + 7].any()
    torch.testing.assert_close(gather(q, k, v, rows, prefix, 0.0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_differs_by_its_own_rounding(dtype):
    q, k, v = drawn(2, 2, 67, 32, dtype)
    rows = chosen(2, 2, 67, 1, 9)
    found, expected = (attend(q, k, v, rows, 1, 0.0) for attend in (gather, masked))
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("size", [1, 1 << 9, 1 << 22])
def test_chunks_and_the_way_back_change_nothing(size, monkeypatch):
    """Gradients too, of rows without a key too."""
    monkeypatch.setattr(attention_gather, "CHUNK", size)
    rows = chosen(2, 2, 33, 1, 5)
    rows[:, :, 4] = False
    rows[:, :, 9, 20:] = False
    slopes = torch.randn(2, 2, 33, 16, generator=torch.Generator().manual_seed(1))
    results = []
    for attend in (masked, gather):
        given = [x.requires_grad_() for x in drawn(2, 2, 33, 16)]
        out = attend(*given, rows, 1, 0.0)
        (out * slopes).sum().backward()
        results.append([out, *(x.grad for x in given)])
    assert all(each.isfinite().all() for each in results[1])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("size", [1 << 10, 1 << 22])
def test_what_is_gathered_costs_the_closed_form(prefix, size, monkeypatch):
    monkeypatch.setattr(attention_gather, "CHUNK", size)
    tokens, heads, budget = 37, 3, 6
    q, k, v = drawn(1, heads, tokens, 16)
    counts = {}
    for name, attend in (("gather", gather), ("masked", masked)):
        with FlopCounterMode(display=False) as counter:
            attend(q, k, v, chosen(1, heads, tokens, prefix, budget), prefix, 0.0)
        counts[name] = counter.get_total_flops()
    assert counts["gather"] == 2 * attention_macs.budgeted(tokens, heads * 16, budget, prefix)
    assert counts["masked"] == 2 * attention_macs.dense(tokens, heads * 16)


def test_no_more_than_a_chunk_of_keys_is_ever_gathered(monkeypatch):
    monkeypatch.setattr(attention_gather, "CHUNK", 1 << 12)
    seen, whole = [], torch.nn.functional.embedding

    def watched(index, table):
        made = whole(index, table)
        seen.append(made.numel())
        return made

    monkeypatch.setattr(attention_gather.functional, "embedding", watched)
    gather(*drawn(2, 2, 150, 16), chosen(2, 2, 150, 1, 10), 1, 0.0)
    assert len(seen) > 2 and max(seen) <= 1 << 12
    assert sum(seen) == 2 * 2 * 2 * 149 * 10 * 16  # keys and values, each once


@pytest.mark.parametrize("path", ["gather", "flex"])
def test_dropout_is_refused_and_what_to_type_is_said(path):
    q, k, v = drawn(1, 1, 9, 8)
    with pytest.raises(StageError, match=rf"kernel={path}.*0\.1.*kernel=masked.*model\.dropout=0"):
        ATTEND[path](q, k, v, chosen(1, 1, 9, 1, 2), 1, 0.1)


def test_gathering_from_no_keys_at_all_is_zero():
    q, k, v = drawn(1, 2, 9, 8)
    assert not gather(q, k, v, torch.zeros(1, 2, 9, 9, dtype=torch.bool), 0, 0.0).any()
