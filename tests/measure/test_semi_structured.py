"""Which weights 2:4 kernels take, and what a CPU's ledger says of them."""

import copy

import pytest
import torch
from torch import nn

from gossamer.contract import Fact
from gossamer.measure import memory, runtimes, semi_structured
from gossamer.sparsity.patterns import parse


def pruned(out: int = 64, width: int = 128, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(width, out, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(parse("2:4").mask(layer.weight.abs(), None))
    return layer


class Pair(nn.Module):
    """Two layers, of which the second has a shape that no kernel takes."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = pruned(64, 128), pruned(5, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x).relu())


FACTS = [Fact("up", (64, 128), "2:4"), Fact("down", (5, 64), "2:4"), Fact("head", (3, 5))]


def test_a_weight_is_taken_for_its_pattern_its_shape_and_its_dtype():
    weight = pruned().weight
    assert semi_structured.ineligible(weight, torch.bfloat16) is None
    assert semi_structured.ineligible(weight, torch.float16) is None
    assert "no sparse kernel for float64" in semi_structured.ineligible(weight, torch.float64)
    assert "5x64 is no multiple of" in semi_structured.ineligible(pruned(5, 64).weight, torch.half)
    assert "do not hold 2:4" in semi_structured.ineligible(torch.ones(64, 64), torch.float16)
    assert "3 dimensions" in semi_structured.ineligible(torch.zeros(2, 64, 64), torch.float16)


def test_only_what_the_ledger_calls_2_to_4_is_asked():
    assert semi_structured.sparse_layers([*FACTS, FACTS[0]]) == ["up", "down"]


def test_on_a_cpu_the_ledger_says_that_no_kernel_skips_the_zeros():
    (entry,) = runtimes.timed(Pair(), Pair(), {"one": {"x": torch.ones(4, 128)}}, FACTS, "cpu")
    assert entry["notes"] == [semi_structured.NO_KERNEL]
    (entry,) = runtimes.timed(Pair(), Pair(), {"one": {"x": torch.ones(4, 128)}}, [], "cpu")
    assert entry["notes"] == []


def test_where_a_model_cannot_be_measured_the_entry_says_why(monkeypatch):
    model = Pair()
    model.stream = True
    (entry,) = runtimes.timed(Pair(), model, {"one": {}}, FACTS, "cuda")
    assert entry == {"workload": "one", "skipped": entry["skipped"]}
    assert "model.stream=true" in entry["skipped"]
    monkeypatch.setattr(runtimes, "MANY", 10)
    (entry,) = runtimes.timed(Pair(), Pair(), {"one": {}}, [], "cpu", alone=False)
    assert "gossamer bench RUN --device cpu" in entry["skipped"]


def test_a_packed_weight_counts_the_bytes_of_its_parts():
    from torch.testing._internal.two_tensor import TwoTensor

    layer = nn.Linear(4, 8, bias=False)
    dense = memory.model_bytes(layer)
    parts = TwoTensor(torch.zeros(8, 4, dtype=torch.half), torch.zeros(8, 4, dtype=torch.half))
    layer.weight = nn.Parameter(parts, requires_grad=False)
    assert memory.model_bytes(layer) == 2 * 64 and dense == 128
    meta = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 2, bias=False)).to("meta")
    assert memory.model_bytes(meta) == 128 + 64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_compressed_products_equal_dense_masked_ones(dtype):
    """T21 of CAST's notes."""
    model = Pair().to("cuda", dtype)
    small = copy.deepcopy(model)
    assert list(semi_structured.compress(small, ["up", "down"])) == ["down"]
    x = torch.randn(33, 128, device="cuda", dtype=dtype)  # a number of rows that must be padded
    torch.testing.assert_close(small(x), model(x), rtol=2e-2, atol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_both_runtimes_are_timed_and_the_dense_layers_are_named():
    x = {"x": torch.randn(64, 128)}
    entries = runtimes.timed(Pair(), Pair(), {"one": x}, FACTS, "cuda")
    assert [entry["dtype"] for entry in entries] == ["float32", "bfloat16"]
    assert "2:4 kernels in 1 of 2" in entries[1]["runtime"]
    assert entries[1]["notes"][0].startswith("left dense: down, 5x64")
