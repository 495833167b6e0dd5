"""Fake-quantised layers and their packed form: the same function, bit by bit."""

import copy

import pytest
import torch
from torch import nn

from gossamer.errors import ConfigError, StageError
from gossamer.export.manifest import unsaved
from gossamer.quantization.fake import FakeQuantizedConv2d, FakeQuantizedLinear, fake_quantized
from gossamer.quantization.grid import quantized_input, quantized_weight
from gossamer.quantization.packed import PackedConv2d, PackedLinear
from gossamer.sparsity import masks
from gossamer.sparsity.patterns import parse

ROOT = {"linear": (5, 32), "conv": (2, 3, 8, 8)}  # shapes of inputs


def plain(kind, bias=True, seed=0):
    torch.manual_seed(seed)
    if kind == "linear":
        return nn.Linear(32, 12, bias)
    return nn.Conv2d(3, 12, 4, stride=4, bias=bias)


def inputs(kind, seed=1):
    return torch.randn(ROOT[kind], generator=torch.Generator().manual_seed(seed))


def calibrated(kind, bits, pattern=None, bias=True):
    layer = fake_quantized(plain(kind, bias), bits)
    if pattern:
        weight = layer.weight.detach()
        mask = parse(pattern).mask(weight.flatten(1).abs(), None).reshape(weight.shape)
        masks.attach(layer, mask)
        masks.apply(layer)
    layer.input_amax.fill_(2.5)
    layer.active = True
    return layer


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_an_inactive_layer_computes_what_the_plain_one_does_with_its_own_parameters(kind):
    layer, x = plain(kind), inputs(kind)
    fake = fake_quantized(layer, 8)
    assert fake.weight is layer.weight and fake.bias is layer.bias and not fake.active
    assert torch.equal(fake(x), layer(x))
    assert {name for name, _ in fake.named_parameters()} == {"weight", "bias"}
    assert fake.state_dict().keys() == {"weight", "bias", "input_amax"}


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_an_active_layer_multiplies_quantised_inputs_by_quantised_weights(kind):
    fake, x = calibrated(kind, 4), inputs(kind)
    layer = plain(kind)
    layer.weight.data = quantized_weight(layer.weight, 4).detach()
    assert torch.equal(fake(x), layer(quantized_input(x, torch.tensor(2.5) / 7, 4)))
    assert not torch.equal(fake(x), plain(kind)(x))


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("pattern", [None, "2:4", "pairwise:4:8"])
def test_a_packed_layer_equals_the_active_one_bit_by_bit(kind, bits, pattern):
    fake, x = calibrated(kind, bits, pattern), inputs(kind)
    packed = fake.packed()
    assert packed.pattern == (pattern or "dense") and packed.bits == bits
    assert torch.equal(packed(x), fake(x))
    assert torch.equal(packed.weight, quantized_weight(fake.weight, bits))
    assert packed.integers().shape == fake.weight.shape
    assert not packed.weight[fake.weight == 0].any()


def test_zeros_of_the_mask_stay_zeros_through_a_training_step():
    fake, x = calibrated("linear", 4, "2:4"), inputs("linear")
    optimizer = torch.optim.AdamW(fake.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        fake(x).square().sum().backward()
        optimizer.step()
        masks.apply(fake)
    assert parse("2:4").holds(fake.weight)
    assert parse("2:4").holds(quantized_weight(fake.weight, 4))
    assert fake.packed().pattern == "2:4"


def test_the_mask_of_the_layer_is_taken_over_and_both_survive_a_state_dict():
    layer = plain("linear")
    masks.attach(layer, parse("2:4").mask(layer.weight.abs(), None))
    masks.apply(layer)
    fake = fake_quantized(layer, 8)
    assert torch.equal(fake.weight_mask, layer.weight_mask)
    fake.input_amax.fill_(1.5)
    fresh = fake_quantized(plain("linear", seed=9), 8)
    masks.attach(fresh)
    fresh.load_state_dict(fake.state_dict())
    fresh.active = fake.active = True
    assert float(fresh.input_amax) == 1.5
    assert torch.equal(fresh(inputs("linear")), fake(inputs("linear")))
    again = copy.deepcopy(fresh)
    assert torch.equal(again(inputs("linear")), fake(inputs("linear")))


def test_gradients_pass_where_the_input_is_not_clipped():
    fake, x = calibrated("linear", 8), inputs("linear").requires_grad_()
    fake(x).sum().backward()
    inside = x.abs() <= 2.5
    assert 0 < int((~inside).sum()) < x.numel()
    want = quantized_weight(fake.weight, 8).sum(0).expand_as(x)
    torch.testing.assert_close(x.grad[inside], want[inside])
    assert not x.grad[x.abs() > 2.6].any()
    seen = quantized_input(x, torch.tensor(2.5) / 127, 8).detach().sum(0)
    torch.testing.assert_close(fake.weight.grad, seen.expand(12, 32))
    assert fake.bias.grad.tolist() == [5.0] * 12


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_under_autocast_values_reach_the_grid_in_float32(kind, monkeypatch):
    fake, x = calibrated(kind, 4), inputs(kind)
    seen = []
    product = type(fake)._product
    monkeypatch.setattr(
        type(fake), "_product", lambda self, *both: seen.extend(both) or product(self, *both)
    )
    with torch.autocast("cpu", torch.bfloat16):
        out = fake(x)
    assert out.dtype is torch.bfloat16
    assert torch.equal(seen[0], quantized_input(x, torch.tensor(2.5) / 7, 4))
    assert torch.equal(seen[1], quantized_weight(fake.weight, 4))
    out.float().sum().backward()
    assert fake.weight.grad.dtype is torch.float32 and fake.weight.grad.any()


@pytest.mark.parametrize("amax", [0.0, float("inf"), float("nan")])
def test_a_layer_without_a_range_is_refused_and_one_that_gets_it_is_not(amax):
    fake = fake_quantized(plain("linear"), 8)
    fake.active = True
    fake.input_amax.fill_(amax)
    assert not fake.calibrated
    for use in (lambda: fake(inputs("linear")), fake.packed):
        with pytest.raises(StageError, match=r"input_amax=(0\.0|inf|nan): calibrate it first"):
            use()
    fake.input_amax.fill_(1.0)
    assert fake.calibrated and fake(inputs("linear")).isfinite().all()
    fake.input_amax.zero_()  # seen although it was there before
    with pytest.raises(StageError, match="calibrate"):
        fake(inputs("linear"))


def test_what_cannot_be_quantised_is_refused():
    with pytest.raises(ConfigError, match=r"bits=1: "):
        fake_quantized(plain("linear"), 1)
    with pytest.raises(ConfigError, match="a Embedding cannot be quantised"):
        fake_quantized(nn.Embedding(3, 4), 8)
    with pytest.raises(ConfigError, match="padding_mode='circular'"):
        fake_quantized(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), 8)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_both_work_on_the_meta_device(kind):
    with torch.device("meta"):
        fake = fake_quantized(plain(kind), 8)
        masks.attach(fake)
        x = inputs_on_meta(kind)
    assert fake.input_amax.is_meta and fake(x).is_meta
    fake.active = True
    assert fake(x).shape == calibrated(kind, 8)(inputs(kind)).shape
    source = calibrated(kind, 8, "2:4").packed()
    with torch.device("meta"):
        packed = type(source)(**source.arguments)
    assert packed(x).shape == source(inputs(kind)).shape and packed.weight.is_meta
    packed.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(packed(inputs(kind)), source(inputs(kind)))


def inputs_on_meta(kind):
    return torch.empty(ROOT[kind], device="meta")


def test_a_convolution_with_groups_padding_and_stride_packs_too():
    torch.manual_seed(0)
    fake = fake_quantized(nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=2, groups=2), 8)
    assert isinstance(fake, FakeQuantizedConv2d)
    fake.input_amax.fill_(3.0)
    fake.active = True
    x = torch.randn(2, 4, 9, 9)
    packed = fake.packed()
    assert isinstance(packed, PackedConv2d) and torch.equal(packed(x), fake(x))
    again = PackedConv2d(**packed.arguments)
    again.load_state_dict(packed.state_dict())
    assert torch.equal(again(x), fake(x))


@pytest.mark.parametrize("bias", [True, False])
def test_the_unpacked_weight_is_made_once_and_follows_the_integers(bias):
    source = calibrated("linear", 8, "2:4", bias).packed()
    assert isinstance(source, PackedLinear) and source.unpacked() is None
    with torch.inference_mode():
        source(inputs("linear"))
    weight = source.weight
    assert weight is source.weight is source.unpacked() and not weight.is_inference()
    keys = {"values", "positions", "scale", "input_scale"} | ({"bias"} if bias else set())
    assert source.state_dict().keys() == keys
    assert unsaved(source) == {}
    assert isinstance(calibrated("linear", 8), FakeQuantizedLinear)
    source.scale.mul_(2)
    assert torch.equal(source.weight, 2 * weight)
    other = calibrated("linear", 8, "2:4", bias)
    other.weight.data.neg_()
    source.load_state_dict(other.packed().state_dict())
    assert torch.equal(source.weight, -weight)
    copied = copy.deepcopy(source)
    assert torch.equal(copied.weight, source.weight) and copied.weight is not source.weight


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_scales_stay_float32_in_a_model_of_another_dtype(kind):
    source = calibrated(kind, 8, "2:4").packed()
    half = copy.deepcopy(source).to(torch.bfloat16)
    assert half.scale.dtype is half.input_scale.dtype is torch.float32
    assert torch.equal(half.integers(), source.integers())
    assert half.bias.dtype is torch.bfloat16
    out = half(inputs(kind).bfloat16())
    assert out.dtype is torch.bfloat16
    torch.testing.assert_close(out.float(), source(inputs(kind)), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("form", ["fake", "packed", "unpacked"])
def test_a_layer_is_captured_as_one_graph_that_computes_the_same(kind, form):
    """What compilers and exporters see: no break at the weight, unpacked before or not."""
    layer, x = calibrated(kind, 8, "2:4"), inputs(kind)
    want = layer(x)
    layer = layer if form == "fake" else layer.packed()
    if form == "unpacked":
        assert layer.weight is layer.unpacked()
    with torch.no_grad():
        captured = torch.compile(layer, backend="eager", fullgraph=True)
        assert torch.equal(captured(x), want)
        assert torch.equal(torch.export.export(layer, (x,)).module()(x), want)
