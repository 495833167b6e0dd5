"""Sizes are counted in what is there."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gossamer.contract import Fact
from gossamer.measure import size


class Packed(nn.Module):
    """4-bit codes, two to a byte, and a scale per row: 8 inputs, 2 outputs."""

    def __init__(self):
        super().__init__()
        self.codes = nn.Parameter(torch.zeros(2, 4, dtype=torch.uint8), False)
        self.register_buffer("scale", torch.ones(2))
        self.bias = nn.Parameter(torch.zeros(2))


def test_a_shared_parameter_counts_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    model[0].weight.data[0, :2] = 0
    assert (size.parameters(model), size.nonzero_parameters(model)) == (9, 7)


def test_bits_per_weight_are_those_really_stored():
    model = nn.ModuleDict({"packed": Packed(), "zeroed": nn.Linear(8, 2), "left": nn.Linear(8, 2)})
    model["zeroed"].weight.data[0] = 0
    packed = Fact("packed", (2, 8), "int4")
    zeroed = Fact("zeroed", (2, 8), "unstructured", 0.5, 0.5)
    rest = [
        Fact("left", (2, 8), changed=False),
        Fact("left", (2, 8), skipped="not a multiple of 4"),
        Fact("attention", (4, 4), "window"),
    ]
    assert size.bits_per_weight(model, [packed]) == (8 + 2 * 4) * 8 / 16
    assert size.bits_per_weight(model, [zeroed]) == 32  # zeros in a dense file take their bits
    assert size.bits_per_weight(model, [packed, zeroed, *rest]) == (8 + 32) / 2
    assert size.bits_per_weight(model, rest) is None


def test_the_whole_ledger(tmp_path):
    dense, model = nn.Linear(4, 4), nn.Linear(4, 2)
    for name, content in (("dense", dense), ("model", model)):
        (tmp_path / name).mkdir()
        save_file(content.state_dict(), tmp_path / name / "model.safetensors")
    (tmp_path / "model" / "gossamer.json").write_text("not a weight")
    ledger = size.size(
        model,
        dense,
        [Fact("", (2, 4), "heads", state_bytes=7)],
        trainable=5,
        directory=tmp_path / "model",
        dense_directory=tmp_path / "dense",
    )
    bytes_ = (tmp_path / "model/model.safetensors").stat().st_size
    assert ledger["checkpoint_bytes"] == bytes_ < ledger["dense_checkpoint_bytes"]
    assert (ledger["parameters"], ledger["dense_parameters"]) == (10, 20)
    assert (ledger["trainable_parameters"], ledger["state_bytes"]) == (5, 7)
    with pytest.raises(FileNotFoundError, match="safetensors"):
        size.checkpoint_bytes(tmp_path)
