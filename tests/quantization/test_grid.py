"""The integer grids of weights and inputs, and the gradients that go through them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.errors import ConfigError
from gossamer.quantization.grid import (
    dequantized,
    input_scale,
    integers,
    largest,
    quantized_input,
    quantized_weight,
    weight_scale,
)

widths = st.integers(2, 8)


@st.composite
def weights(draw):
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    spread = draw(st.sampled_from([1e-6, 0.02, 1.0, 300.0]))
    seed = draw(st.integers(0, 2**20))
    weight = spread * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    if draw(st.booleans()):  # a pruned row, and zeros elsewhere
        weight[0] = 0
        weight[:, 0] = 0
    return weight


def test_the_largest_integers_are_127_and_7_and_other_widths_are_refused():
    assert [largest(bits) for bits in (2, 3, 4, 8)] == [1, 3, 7, 127]
    with pytest.raises(ConfigError, match=r"bits=16: a grid has 2 to 8 bits"):
        largest(16)


def test_a_hand_computed_weight_rounds_half_to_even():
    weight = torch.tensor([[7.0, 0.5, 1.5, -2.5, -7.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    scale = weight_scale(weight, 4)
    assert scale.tolist() == [1.0, 1.0]
    assert integers(weight, scale, 4).tolist() == [[7, 0, 2, -2, -7], [0, 0, 0, 0, 0]]
    assert quantized_weight(2 * weight, 4).tolist()[0] == [14, 0, 4, -4, -14]


@settings(deadline=None)
@given(weights(), widths)
def test_weights_lie_on_a_symmetric_grid_with_zero_on_it(weight, bits):
    top, scale, on_grid = largest(bits), weight_scale(weight, bits), quantized_weight(weight, bits)
    steps = integers(weight, scale, bits)
    assert steps.dtype is torch.int8 and int(steps.abs().max()) <= top
    assert torch.equal(dequantized(steps, scale), on_grid)
    assert all(len(row.unique()) <= 2 * top + 1 for row in steps)
    alive = weight.abs().amax(1) > 0
    assert torch.equal(steps.abs().amax(1)[alive], torch.full((int(alive.sum()),), top))
    assert not on_grid[weight == 0].any() and on_grid.isfinite().all()
    assert torch.equal(quantized_weight(-weight, bits), -on_grid)
    half = scale[:, None] / 2
    assert ((weight - on_grid).abs() <= half * (1 + 1e-5)).all()


@settings(deadline=None)
@given(weights(), widths)
def test_quantising_twice_changes_nothing(weight, bits):
    once = quantized_weight(weight, bits)
    again = quantized_weight(once, bits)
    scale = weight_scale(weight, bits)
    # the scale is rounded twice, the integers are the same
    assert torch.equal(
        integers(once, weight_scale(once, bits), bits), integers(weight, scale, bits)
    )
    torch.testing.assert_close(again, once, rtol=3e-7, atol=0)
    x = quantized_input(weight, scale[0], bits)
    assert torch.equal(quantized_input(x, scale[0], bits), x)


@settings(deadline=None)
@given(weights(), widths, st.sampled_from([0.25, 2.0, 1024.0]), st.integers(0, 4))
def test_a_rows_scale_follows_that_row_and_no_other(weight, bits, factor, row):
    row %= len(weight)
    scaled = weight.clone()
    scaled[row] *= factor
    before, after = weight_scale(weight, bits), weight_scale(scaled, bits)
    if weight[row].any():
        assert after[row] == before[row] * factor  # exact, for a power of two
        assert torch.equal(
            quantized_weight(scaled, bits)[row], quantized_weight(weight, bits)[row] * factor
        )
    rest = torch.arange(len(weight)) != row
    assert torch.equal(after[rest], before[rest])


@pytest.mark.parametrize("tiny", [0.0, 1e-45, 1e-40])
def test_a_row_without_a_scale_becomes_zeros_not_nan(tiny):
    weight = torch.tensor([[tiny, -tiny], [1.0, 2.0]])
    assert weight_scale(weight, 8)[0] == 1
    assert quantized_weight(weight, 8)[0].tolist() == [0, 0]


def test_a_convolutions_output_channels_have_scales_of_their_own():
    weight = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    flat = quantized_weight(weight.flatten(1), 4)
    assert torch.equal(quantized_weight(weight, 4).flatten(1), flat)
    assert integers(weight, weight_scale(weight, 4), 4).shape == weight.shape


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_and_their_gradients_are_torchs_per_channel_fake_quantisation(bits):
    draw = torch.Generator().manual_seed(bits)
    weight = torch.randn(64, 48, generator=draw, requires_grad=True)
    outer, top, scale = (
        torch.randn(64, 48, generator=draw),
        largest(bits),
        weight_scale(weight, bits),
    )
    ours = quantized_weight(weight, bits)
    (mine,) = torch.autograd.grad(ours, weight, outer)
    zero = torch.zeros(64, dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -top, top)
    (other,) = torch.autograd.grad(theirs, weight, outer)
    assert torch.equal(mine, other) and torch.equal(mine, outer)
    _same_but_for_ties(ours, theirs, weight / scale[:, None], scale[:, None])


@pytest.mark.parametrize("bits", [4, 8])
def test_inputs_and_their_gradients_are_torchs_per_tensor_fake_quantisation(bits):
    draw = torch.Generator().manual_seed(bits)
    x = torch.randn(32, 64, generator=draw, requires_grad=True)
    outer, top = torch.randn(32, 64, generator=draw), largest(bits)
    scale = input_scale(torch.tensor(1.5), bits)  # clips an eighth of them
    ours = quantized_input(x, scale, bits)
    (mine,) = torch.autograd.grad(ours, x, outer)
    zero = torch.zeros((), dtype=torch.int32)
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, zero, -top - 1, top)
    (other,) = torch.autograd.grad(theirs, x, outer)
    assert torch.equal(mine, other)
    _same_but_for_ties(ours, theirs, x / scale, scale)
    inside = ((x / scale).round() >= -top - 1) & ((x / scale).round() <= top)
    assert torch.equal(mine, outer * inside) and 0 < int((~inside).sum()) < x.numel() // 2
    assert torch.equal(quantized_input(x.detach(), scale, bits), ours)  # without a gradient, too


def _same_but_for_ties(ours, theirs, ratio, scale):
    """torch multiplies by 1 / scale: where that is a hair from a tie it may round the other way."""
    off = (ours - theirs).abs() > 1e-5 * scale
    tie = ((ratio - ratio.floor()) - 0.5).abs() < 1e-4
    assert not (off & ~tie).any() and ((ours - theirs).abs() <= scale * 1.001).all()
    assert int(off.sum()) <= 2


def test_no_gradient_reaches_a_scale():
    x, amax = torch.randn(4, 4, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    quantized_input(x, input_scale(amax, 8), 8).sum().backward()
    assert x.grad is not None and amax.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_quantised_in_float32_and_come_back_as_they_were(dtype):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(8, 16, generator=draw).to(dtype).requires_grad_()
    scale = torch.tensor(0.03)
    got = quantized_input(x, scale, 8)
    assert got.dtype is dtype and torch.equal(got, quantized_input(x.float(), scale, 8).to(dtype))
    got.sum().backward()
    assert x.grad.dtype is dtype and torch.equal(x.grad, torch.ones_like(x))
    assert quantized_weight(x, 4).dtype is dtype
    assert weight_scale(x, 4).dtype is torch.float32
