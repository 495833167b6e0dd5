"""Measured figures are measured: in turns, on the device, with what they were measured by."""

import time

import pytest
import torch
from torch import nn

from gossamer.measure import memory
from gossamer.measure.speed import (
    LEAST,
    Timing,
    device_name,
    interleaved,
    paired_ratio,
    speed,
)


class Waits(nn.Module):
    """Takes a known time and remembers when it was called."""

    def __init__(self, name, seconds, calls):
        super().__init__()
        self.name, self.seconds, self.calls = name, seconds, calls
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        assert torch.is_inference_mode_enabled()
        self.calls.append(self.name)
        time.sleep(self.seconds)
        return x


class Takes(nn.Module):
    """Holds `mebibytes` for the length of one pass."""

    def __init__(self, mebibytes):
        super().__init__()
        self.bytes = mebibytes << 20
        self.weight = nn.Parameter(torch.zeros(1 << 18))  # 1 MiB

    def forward(self, x):
        return torch.ones(self.bytes // 4, device=x.device).sum() + x.sum()


X = {"x": torch.ones(4, 2)}


def test_models_take_turns_in_alternating_order():
    calls = []
    models = {name: Waits(name, 0.0, calls) for name in "ab"}
    timings = interleaved(models, X, warmup=2, repeats=4)
    assert calls == list("aabb") + list("abbaabba")
    assert all(len(timing.seconds) == 4 for timing in timings.values())


def test_latency_and_throughput_are_those_of_the_calls():
    calls = []
    timings = interleaved(
        {"a": Waits("a", 0.02, calls), "b": Waits("b", 0.04, calls)}, X, repeats=5
    )
    assert 20 <= timings["a"].latency_ms["p50"] < 40 <= timings["b"].latency_ms["p50"]
    assert timings["b"].throughput_per_second <= 4 / 0.04


def test_a_slow_model_stops_at_the_time_limit_but_not_before_six():
    calls = []
    timings = interleaved({"a": Waits("a", 0.02, calls)}, X, warmup=0, repeats=100, seconds=0.01)
    assert len(timings["a"].seconds) == 6


def test_quantiles_and_throughput_by_hand():
    timing = Timing(tuple(i / 1000 for i in range(1, 101)), rows=2)
    assert timing.latency_ms == {"p50": pytest.approx(50.5), "p95": pytest.approx(95.05)}
    assert timing.throughput_per_second == pytest.approx(200 / 5.05)
    assert Timing((0.5,), 1).latency_ms == {"p50": 500, "p95": 500}


def check_entries(entries, device):
    assert [entry["workload"] for entry in entries] == ["batch 1", "batch 4"]
    for entry in entries:
        assert entry["device"] == device_name(device) and entry["dtype"] == "float32"
        assert entry["threads"] == torch.get_num_threads()
        for side, mebibytes in (("dense", 48), ("compressed", 24)):
            figures = entry[side]
            assert 0 < figures["p50"] <= figures["p95"]
            assert figures["throughput"] > 0
            assert figures["peak_memory_bytes"] == pytest.approx((mebibytes + 1) << 20, rel=0.1)


WORKLOADS = {"batch 1": {"x": torch.ones(1, 2)}, "batch 4": X}


def test_dense_and_compressed_are_measured_together():
    check_entries(speed(Takes(48), Takes(24), WORKLOADS, repeats=5), "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_dense_and_compressed_are_measured_together_on_the_gpu():
    check_entries(speed(Takes(48), Takes(24), WORKLOADS, device="cuda", repeats=5), "cuda")


def test_peak_memory_says_why_when_it_cannot_be_read(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "absent" / "clear_refs")
    bytes_, why = memory.peak(Takes(1), X)
    assert bytes_ is None and "reset its peak memory" in why
    monkeypatch.setattr("sys.platform", "darwin")
    assert memory.peak(Takes(1), X) == (None, "no way to reset the peak resident set on darwin")


def test_model_bytes_count_each_storage_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("view", model[0].weight.data[0])
    assert memory.model_bytes(model) == 64


def test_the_ratio_of_turns_has_the_interval_that_order_statistics_give():
    compressed = Timing((1.0,) * 10, 1)
    dense = Timing((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0), 1)
    # P(fewer than 2 of 10 below the median) = 11/1024: the second from each end is 97.9% sure
    assert paired_ratio(dense, compressed) == {"p50": 5.5, "low": 2.0, "high": 9.0}


def test_six_turns_are_the_fewest_for_a_95_percent_interval():
    times = Timing((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), 1)
    ratio = paired_ratio(times, Timing((1.0,) * 6, 1))
    assert LEAST == 6 and (ratio["low"], ratio["high"]) == (1.0, 6.0)
    assert 2 / 2**6 < 0.05 < 2 / 2**5
