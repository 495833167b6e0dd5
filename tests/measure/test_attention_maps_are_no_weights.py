"""A map of attention may be in a weight's pattern and have a module's name, and is no weight."""

import torch

from gossamer.contract import Fact
from gossamer.export.sparse import metadata
from gossamer.measure.semi_structured import sparse_layers

WEIGHT = Fact("fc", (2, 4), "2:4", density=0.5)
MAP = Fact("attn", (2, 4, 4), "2:4", density=0.5, macs=32, dense_macs=64)


def test_no_kernel_is_asked_to_skip_the_zeros_of_a_map():
    assert sparse_layers([MAP, WEIGHT]) == ["fc"]


def test_no_map_is_in_sparsity_json():
    half = torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2)
    state = {"attn.weight": torch.tensor([[0.0, 1, 1, 1]]), "fc.weight": half}
    told = metadata([MAP, WEIGHT], state)
    assert [layer["name"] for layer in told["groups"][0]["layers"]] == ["fc"]
