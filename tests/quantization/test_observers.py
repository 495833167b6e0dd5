"""What calibration says of the numbers it saw."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.errors import ConfigError, StageError
from gossamer.quantization.grid import input_scale, quantized_input
from gossamer.quantization.observers import BINS, KINDS, observer


def numbers(tail, count=60_000, seed=0):
    """Normal numbers, or such with heavy tails (Student's t of three degrees of freedom)."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, generator=draw)
    if tail == "heavy":
        x = x / torch.randn(3, count, generator=draw).square().mean(0).sqrt()
    return x


def told(kind, bits, *parts, percentile=99.99):
    seen = observer(kind, bits, percentile)
    for part in parts:
        seen.add(part)
    return seen.amax()


def error(x, amax, bits):
    return float((quantized_input(x, input_scale(amax, bits), bits) - x).square().mean())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**20), st.integers(1, 4), st.sampled_from([1e-38, 1.0, 1e30]))
def test_the_largest_magnitude_is_exact(seed, parts, size):
    x = size * torch.randn(40, 3, generator=torch.Generator().manual_seed(seed))
    amax = told("max", 8, *x.chunk(parts))
    assert amax.dtype is torch.float32 and amax.shape == () and amax == x.abs().max()
    for kind in ("percentile", "entropy"):
        other = told(kind, 8, *x.chunk(parts), percentile=100)
        assert 0 < other <= amax * (1 + 1e-6)


@pytest.mark.parametrize("tail", ["normal", "heavy"])
@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9, 99.99, 100.0])
@pytest.mark.parametrize("parts", [1, 7])
def test_a_percentile_is_torchs_quantile_to_within_a_bin(tail, percentile, parts):
    x = numbers(tail)
    amax = told("percentile", 8, *x.chunk(parts), percentile=percentile)
    ordered = x.abs().sort().values
    rank = percentile / 100 * (len(x) - 1)
    below, above = ordered[max(0, int(rank) - 1)], ordered[min(len(x) - 1, int(rank) + 2)]
    wide = 2 * float(x.abs().max()) / BINS
    assert below - wide <= amax <= above + wide
    want = torch.quantile(x.abs(), percentile / 100)
    torch.testing.assert_close(amax, want, rtol=0.01, atol=wide)


@pytest.mark.parametrize("tail", ["normal", "heavy"])
@pytest.mark.parametrize("bits", [4, 8])
def test_entropy_clips_no_more_than_it_gains(tail, bits):
    """At 4 bits it is nearer to the numbers than their largest one is, and never beyond it."""
    x = numbers(tail)
    amax, most = told("entropy", bits, x), told("max", bits, x)
    assert amax.isfinite() and 0 < amax <= most and amax.dtype is torch.float32
    if bits == 4:
        assert amax < 0.9 * most
        assert error(x, amax, bits) < 0.7 * error(x, most, bits)
    wide = told("entropy", 8, x)
    assert wide >= told("entropy", 4, x)  # more levels can afford more range


def test_entropy_leaves_two_outliers_out_and_a_uniform_range_whole():
    x = numbers("normal")
    seen = told("entropy", 8, x, torch.tensor([60.0, -55.0]))
    assert x.abs().max() < seen < 12
    assert error(x, seen, 8) < 0.1 * error(x, torch.tensor(60.0), 8)
    even = torch.linspace(-1, 1, 50_001)
    assert told("entropy", 8, even) > 0.98


@pytest.mark.parametrize("kind", ["percentile", "entropy"])
@pytest.mark.parametrize("order", [1, -1])
def test_neither_order_nor_zeros_before_the_rest_matter_beyond_a_bin(kind, order):
    x = numbers("heavy")
    parts = [torch.zeros(1000), *x.sort().values.chunk(9)][::order]
    together, apart = told(kind, 8, torch.cat(parts)), told(kind, 8, *parts)
    # entropy tries ranges that follow the bins: a candidate more or less
    slack = {"percentile": 2 / BINS, "entropy": 0.05}[kind] * float(x.abs().max())
    assert abs(float(together - apart)) <= slack


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_dtypes_and_gradients_do_not_matter(kind):
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    seen = told(kind, 8, x.bfloat16().requires_grad_())
    assert seen.dtype is torch.float32 and not seen.requires_grad
    assert torch.equal(seen, told(kind, 8, x.bfloat16().float().flatten()))
    assert float(told(kind, 8, torch.zeros(10))) == 0  # which no layer takes for calibrated


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_seen_and_numbers_that_are_not_finite_are_refused(kind):
    with pytest.raises(StageError, match="calibration saw no input"):
        observer(kind, 8).amax()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(StageError, match="not finite"):
            told(kind, 8, torch.tensor([1.0, bad]))


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="observer='mean': choose max, percentile, entropy"):
        observer("mean", 8)
    with pytest.raises(ConfigError, match="percentile=0: above 0"):
        observer("percentile", 8, 0)
    with pytest.raises(ConfigError, match="bits=9"):
        observer("max", 9)
