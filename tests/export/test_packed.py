"""Quantised models leave as packed integers and come back bit by bit."""

import json

import pytest
import torch
from torch import nn

from gossamer.contract import Fact
from gossamer.export import bundle
from gossamer.measure.size import bits_per_weight
from gossamer.proof import held_checks
from gossamer.quantization.fake import fake_quantized
from gossamer.quantization.ledger import packed_fact
from gossamer.quantization.packed import PackedConv2d, PackedLinear
from gossamer.sparsity import masks
from gossamer.sparsity.patterns import parse
from tests.export.examples import LAYER, equal, logits, model_, save

UP, DOWN = f"{LAYER}.intermediate.dense", f"{LAYER}.output.dense"


def pack(model, path, bits, pattern=None):
    parent, _, name = path.rpartition(".")
    fake = fake_quantized(model.get_submodule(path), bits)
    if pattern:
        masks.attach(fake, parse(pattern).mask(fake.weight.detach().abs(), None))
        masks.apply(fake)
    fake.input_amax.fill_(2.0)
    setattr(model.get_submodule(parent), name, fake.packed())


def quantised():
    model = model_()
    pack(model, UP, 8, "2:4")
    pack(model, DOWN, 4, "pairwise:4:8")
    pack(model, "classifier", 8)
    model.add_module("patch", nn.Conv2d(3, 8, 4, stride=4))  # beside the model: never run here
    pack(model, "patch", 4)
    return model.eval()


def test_packed_layers_return_bit_by_bit_whether_their_weights_were_unpacked_or_not(
    tmp_path, builder
):
    model = quantised()
    before = logits(model)  # unpacks the weights, which no file may hold
    facts = [packed_fact(path, model.get_submodule(path), target=0.5) for path in (UP, DOWN)]
    save(model, tmp_path / "model", builder, [*facts, Fact("left", (1, 1), changed=False)])
    loaded = bundle.load(tmp_path / "model")
    assert equal(model, loaded) and torch.equal(logits(loaded), before)
    for path in (UP, DOWN, "classifier", "patch"):
        layer, old = loaded.get_submodule(path), model.get_submodule(path)
        assert type(layer) is (PackedConv2d if path == "patch" else PackedLinear)
        assert torch.equal(layer.integers(), old.integers()) and layer.pattern == old.pattern
        assert torch.equal(layer.weight, old.weight) and layer.arguments == old.arguments
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded.patch(x), model.patch(x))
    assert bundle.facts(tmp_path / "model")[:2] == facts
    assert [packed_fact(path, loaded.get_submodule(path), target=0.5) for path in (UP, DOWN)] == (
        facts
    )
    told = json.loads((tmp_path / "model/gossamer.json").read_text())
    assert told["changes"]["modules"][UP]["class"] == "gossamer.quantization.packed.PackedLinear"
    assert told["changes"]["tensors"] == {} and told["transformers"] is False
    assert not (tmp_path / "model/sparsity.json").exists()  # no dense tensor has the zeros


def test_the_files_hold_the_integers_and_nothing_of_the_floats(tmp_path, builder):
    dense, model = model_(), quantised()
    del model.patch
    logits(model)
    save(dense, tmp_path / "dense", builder)
    save(model, tmp_path / "model", builder, [packed_fact(UP, model.get_submodule(UP))])
    with (tmp_path / "model/model.safetensors").open("rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    stored = {
        name.removeprefix(f"{UP}."): entry["data_offsets"][1] - entry["data_offsets"][0]
        for name, entry in head.items()
        if name.startswith(f"{UP}.")
    }
    assert stored == {
        "values": 24 * 16 // 2,
        "positions": 24 * 16 // 8,
        "scale": 96,
        "input_scale": 4,
        "bias": 96,
    }
    loaded = bundle.load(tmp_path / "model")
    fact = packed_fact(UP, loaded.get_submodule(UP))
    assert bits_per_weight(loaded, [fact]) == fact.bits
    assert fact.bits == pytest.approx(5 + 8 * 100 / 384)


def test_zeros_that_were_held_are_looked_for_in_the_integers(tmp_path, builder):
    model = quantised()
    save(model, tmp_path / "model", builder)
    loaded = bundle.load(tmp_path / "model")
    model.held = {UP: model.get_submodule(UP).weight != 0}
    (check,) = held_checks(model, loaded)
    assert check.passed
    layer = loaded.get_submodule(UP)
    layer.positions += 1  # the weights stand elsewhere
    (check,) = held_checks(model, loaded)
    assert not check.passed
