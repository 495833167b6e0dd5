"""Int8 products are the packed layer's, but for the order of float sums; on the CPU here."""

import copy

import pytest
import torch
from torch import nn

from gossamer.measure import cores, int8
from gossamer.quantization.packed import PackedLinear
from tests.export.vision import images, quantized, tiny


def packed(out: int = 24, width: int = 48, bits: int = 8, bias: bool = True) -> PackedLinear:
    torch.manual_seed(0)
    top = 2 ** (bits - 1) - 1
    layer = PackedLinear(width, out, bias, bits, "dense")
    whole = torch.randint(-top, top + 1, (out, width), dtype=torch.int8)
    scale, given = torch.rand(out) / 100 + 0.001, torch.tensor(0.02)
    layer.fill(whole, scale, given, torch.randn(out) if bias else None)
    return layer


@pytest.mark.parametrize("shape", [(48,), (1, 48), (16, 48), (17, 48), (2, 5, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_the_packed_layer(shape, bias):
    layer = packed(bias=bias)
    x = 2 * torch.randn(shape)  # beyond 127 and -128 steps of 0.02
    assert x.min() < -128 * 0.02 and x.max() > 127 * 0.02
    told = int8.Int8Linear(layer)(x[None])[0]
    assert told.shape == (*shape[:-1], 24)
    torch.testing.assert_close(told, layer(x), rtol=1e-5, atol=1e-5)


def test_sums_are_exact_integers():
    layer = packed(bias=False)
    x = 0.02 * torch.randint(-128, 128, (20, 48)).float()
    sums = int8.Int8Linear(layer)._product((x / 0.02).round().to(torch.int8))
    exact = (x / 0.02).round().long() @ layer.integers().long().t()
    assert sums.dtype == torch.int32 and torch.equal(sums.long(), exact)


def test_the_result_has_the_dtype_of_the_input():
    assert int8.Int8Linear(packed())(torch.randn(3, 48, dtype=torch.bfloat16)).dtype == (
        torch.bfloat16
    )


def test_what_has_no_int8_product_is_named_with_the_reason():
    assert int8.ineligible(packed()) is None
    assert "20x48 is no multiple of 8" in int8.ineligible(packed(out=20))
    assert "24x44 is no multiple of 8" in int8.ineligible(packed(width=44))
    assert "4 bits: simulated" in int8.ineligible(packed(bits=4))
    assert "a Linear" in int8.ineligible(nn.Linear(8, 8))


def test_a_model_is_converted_layer_by_layer():
    model = quantized(tiny(), pattern="2:4")
    small = copy.deepcopy(model)
    count, told = int8.convert(small)
    assert count == 8
    assert told["patch_embed.proj"] == "left in floats: a PackedConv2d, no packed linear layer"
    assert told["blocks.0.mlp.fc1"] == "int8, its zeros multiplied: cuSPARSELt is not there"
    x = images(4)
    wide = float((small(x) - model(x)).abs().max())
    assert wide < 0.05 * float(model(x).abs().max())


def test_a_packed_model_becomes_plain_layers_of_the_same_weights():
    model = quantized(tiny(), pattern="2:4")
    plain = cores.plain(model)
    layer = plain.get_submodule("blocks.1.mlp.fc1")
    assert type(layer) is nn.Linear
    assert type(plain.get_submodule("patch_embed.proj")) is nn.Conv2d
    assert torch.equal(layer.weight, model.get_submodule("blocks.1.mlp.fc1").weight)
    assert isinstance(model.get_submodule("blocks.1.mlp.fc1"), PackedLinear)  # a copy was changed
    kinds = {value.dtype for value in plain.to(torch.bfloat16).state_dict().values()}
    assert kinds == {torch.bfloat16}
    assert torch.isfinite(plain(images(2).bfloat16())).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_products_on_the_gpu_are_those_of_the_packed_layer(pattern):
    model = quantized(tiny(), pattern=pattern).cuda()
    layer = model.get_submodule("blocks.0.mlp.fc1")
    x = torch.randn(50, layer.in_features, device="cuda")
    sparse = int8.densely(layer) is None
    assert sparse == (pattern == "2:4")
    torch.testing.assert_close(int8.Int8Linear(layer, sparse)(x), layer(x), rtol=1e-5, atol=1e-5)
