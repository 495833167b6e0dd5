"""What is written as ONNX is the model: its integers, its zeros, its logits, integer products."""

import onnx
import pytest
import torch
from onnx.numpy_helper import to_array
from torch import nn

from gossamer.data.info import DataInfo
from gossamer.errors import ConfigError
from gossamer.export import agreement
from gossamer.export.onnx import Onnx, packed_layers
from gossamer.measure import size
from gossamer.measure.onnx_runtime import Session, integer_products, operators
from gossamer.quantization.fake import fake_quantized
from gossamer.quantization.packed import PackedConv2d
from tests.export.vision import images, quantized, tiny

LAYERS = 9  # of the tiny model: four in each block, and the patch embedding


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(model, its file): 2:4 and INT8, written once."""
    model = quantized(tiny(), pattern="2:4")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return model, Onnx().write(model, {"x": images(2)}, path)


def test_a_float_model_computes_the_same_to_1e_4(tmp_path):
    model = tiny()
    path = Onnx().write(model, {"x": images(2)}, tmp_path / "model.onnx")
    run = Session(path)
    assert run.dtype == "float32"
    for rows in (1, 7):
        torch.testing.assert_close(run(x=images(rows)), model(images(rows)), rtol=0, atol=1e-4)


def test_a_quantised_model_agrees_for_every_batch(written):
    model, path = written
    run = Session(path)
    assert run.dtype == "float32+int8"
    for rows in (1, 33):
        check = agreement.agreement("agrees", model, run, {"x": images(rows, seed=rows)})
        assert check.passed, check.figure


def test_one_layer_is_exact_to_the_order_of_its_sums(tmp_path):
    """No step lies between two quantisers here, so nothing can fall to another side."""
    for layer, shape in (
        (nn.Linear(48, 24), (5, 48)),
        (nn.Linear(48, 24, bias=False), (5, 7, 48)),
        (nn.Conv2d(3, 8, 4, stride=4), (2, 3, 16, 16)),
        (nn.Conv2d(3, 8, (2, 4), stride=(2, 4), bias=False), (2, 3, 16, 16)),
        (nn.Conv2d(4, 8, 3, padding=1, groups=2), (2, 4, 9, 9)),
    ):
        torch.manual_seed(1)
        x = torch.randn(shape)
        fake = fake_quantized(layer.requires_grad_(False), 8)
        fake.input_amax.fill_(float(x.abs().max()) / 2)  # so that some are clipped, at both ends
        model = nn.Sequential(fake.packed())
        path = Onnx().write(model, {"input": x}, tmp_path / "layer.onnx")
        told, heard = model(x), Session(path)(input=x)
        assert told.shape == heard.shape
        torch.testing.assert_close(heard, told, rtol=1e-5, atol=1e-5)


def test_the_runtime_fuses_every_quantised_layer_into_an_integer_product(written, tmp_path):
    model, path = written
    Session(path, optimized=tmp_path / "optimized.onnx")
    assert len(packed_layers(model)) == LAYERS
    assert integer_products(tmp_path / "optimized.onnx") == LAYERS
    assert operators(path)["QuantizeLinear"] == LAYERS
    assert integer_products(path) == 0  # before it is fused


def test_zeros_of_2_to_4_are_zeros_in_the_file(written):
    model, path = written
    stored = {each.name: to_array(each) for each in onnx.load(path).graph.initializer}
    for name, layer in packed_layers(model).items():
        weight = torch.from_numpy(stored[f"{name}.weight"].copy())  # (in, out)
        assert weight.dtype == torch.int8
        groups = weight.t().reshape(weight.shape[1], -1, 4)
        assert int((groups != 0).sum(2).max()) == 2
        assert torch.equal(weight.t(), layer.integers().flatten(1))


def test_the_file_takes_one_byte_for_each_integer_weight(written, tmp_path):
    model, path = written
    whole = sum(layer.integers().numel() for layer in packed_layers(model).values())
    rest = 4 * (size.parameters(model) - whole)  # what is not packed, biases included
    scales = 4 * sum(layer.scale.numel() for layer in packed_layers(model).values())
    graph = path.stat().st_size - whole - rest - scales
    assert 0 < graph < 40_000  # nodes, their names and the zero points
    assert b"/site-packages/" not in path.read_bytes()  # nor which lines made them
    dense = Onnx().write(tiny(), {"x": images(2)}, tmp_path / "dense.onnx")
    saved = dense.stat().st_size - path.stat().st_size
    assert 0 < 3 * whole - saved < 20_000  # three bytes of each weight, less the quantisers


def test_a_file_with_other_integers_is_noticed(written, tmp_path):
    model, path = written
    first, second = Onnx().checks(model, {"x": images(32)}, path, Session(path))
    assert first.passed and second.passed and "9 of 9" in first.figure
    graph = onnx.load(path)
    name = "blocks.0.mlp.fc1"
    (tensor,) = (each for each in graph.graph.initializer if each.name == f"{name}.weight")
    tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]
    onnx.save(graph, tmp_path / "other.onnx")
    other = tmp_path / "other.onnx"
    first, _ = Onnx().checks(model, {"x": images(32)}, other, Session(other))
    assert not first.passed and name in first.figure


@pytest.mark.parametrize("part", ["bias", "scale", "input_scale"])
def test_a_runtime_that_computes_something_else_is_noticed(written, part):
    model, _ = written
    wrong = quantized(tiny(), pattern="2:4")
    tensor = getattr(wrong.get_submodule("blocks.1.mlp.fc2"), part)
    tensor.copy_(tensor.roll(1) if tensor.ndim else tensor * 1.5)
    check = agreement.agreement("agrees", model, lambda x: wrong(x), {"x": images(32)})
    assert not check.passed, check.figure


def test_the_tolerance_of_a_float_model_is_that_of_sums():
    model, x = tiny(), images(4)
    told = model(x)
    allowed = agreement.tolerance(model, {"x": x}, told)
    assert allowed == pytest.approx(agreement.FLOAT * float(told.abs().max()))
    check = agreement.agreement("agrees", model, lambda x: model(x) + 2 * allowed, {"x": x})
    assert not check.passed


def test_int4_is_refused_and_said_to_be_simulated(tmp_path):
    model = quantized(tiny(depth=1), bits=4, pattern="pairwise:4:8")
    assert Onnx().refused(model) == "simulated: no runtime has INT4 products (5 layers)"
    with pytest.raises(ConfigError, match=r"model\.onnx: simulated.*INT4"):
        Onnx().write(model, {"x": images(2)}, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert Onnx().refused(quantized(tiny(depth=1))) is None


def test_data_that_are_no_images_are_refused_in_one_line():
    info = DataInfo("text", ("a", "b"), {"train": 3}, 8, ("accuracy",), "reviews")
    (line,) = Onnx().requirements(info)
    assert line.startswith("export=onnx: only image models") and "export=default" in line
    image = DataInfo("image", ("a", "b"), {"train": 3}, 0, ("accuracy",), "x", image=(3, 16, 16))
    assert Onnx().requirements(image) == []


def test_writing_leaves_the_model_as_it_was(written):
    model, _ = written
    kinds = [type(layer) for layer in packed_layers(model).values()]
    assert kinds.count(PackedConv2d) == 1 and len(kinds) == LAYERS
    assert not any(layer._forward_hooks for layer in model.modules())
