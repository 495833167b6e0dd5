"""Measured latency, throughput and peak memory: several models in one interleaved run.

A machine is not the same at two moments: clocks, neighbours and caches drift. So the models take
turns call by call, in an order that alternates, and every drift meets all of them alike.
"""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.measure import memory
from gossamer.measure.neighbours import neighbours

LEAST = 6  # turns: the fewest whose extremes are a 95% interval of the median
RUNTIME = f"torch {torch.__version__} eager"


@dataclass(frozen=True)
class Timing:
    """Seconds of each timed call of one model on one workload."""

    seconds: tuple[float, ...]
    rows: int  # samples in a call

    @property
    def latency_ms(self) -> dict[str, float]:
        return {
            "p50": 1e3 * _quantile(self.seconds, 0.5),
            "p95": 1e3 * _quantile(self.seconds, 0.95),
        }

    @property
    def throughput_per_second(self) -> float:
        """Samples per second over all timed calls."""
        return self.rows * len(self.seconds) / sum(self.seconds)


@dataclass(frozen=True)
class Contender:
    """What takes turns: a model in one runtime, and what is said of it."""

    call: Callable[..., Any]  # as the model is called
    runtime: str
    dtype: str
    peak: Callable[[Mapping[str, Any]], int | None]  # bytes of it and one pass; None: unknown


def in_torch(
    model: nn.Module, runtime: str = RUNTIME, call: Callable[..., Any] | None = None
) -> Contender:
    """A model as torch runs it; `call`: what runs it, if it is not the model itself."""
    call = model if call is None else call
    return Contender(
        call, runtime, _dtype(model), lambda inputs: memory.peak(model, inputs, call)[0]
    )


def interleaved(
    models: Mapping[str, Callable[..., Any]],
    inputs: Mapping[str, Any],
    *,
    device: str | torch.device | None = None,
    warmup: int = 3,
    repeats: int = 30,
    seconds: float = 10.0,
    least: int = LEAST,
) -> dict[str, Timing]:
    """Time `model(**inputs)` of every model, taking turns, in eval mode and inference mode.

    `repeats` timed calls of each model after `warmup` calls, fewer (but not below `least`) once
    `seconds` have passed. Models and inputs must be on one device (None: the parameters' of the
    first model). On CUDA a call is timed by events around it and waited for; elsewhere by the
    clock."""
    timed = _timer(_device(next(iter(models.values()))) if device is None else torch.device(device))
    calls = {name: _call(model, inputs) for name, model in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for call in calls.values():
            for _ in range(warmup):
                timed(call)
        began = time.perf_counter()
        for turn in range(repeats):
            if turn >= least and time.perf_counter() - began > seconds:
                break
            order = list(calls) if turn % 2 == 0 else list(calls)[::-1]
            for name in order:
                taken[name].append(timed(calls[name]))
    rows = next(len(value) for value in inputs.values() if isinstance(value, Tensor))
    return {name: Timing(tuple(times), rows) for name, times in taken.items()}


def speed(
    dense: nn.Module,
    compressed: nn.Module,
    workloads: Mapping[str, Mapping[str, Any]],
    *,
    device: str | torch.device = "cpu",
    warmup: int = 3,
    repeats: int = 30,
    seconds: float = 10.0,
    runtime: str = RUNTIME,
    notes: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The record's `speed`: one entry per workload (name -> inputs), dense twin and compressed
    model in one interleaved run on `device`, to which both are moved. `runtime` and `notes` say
    what runs them, and what must be known of it."""
    device = torch.device(device)
    sides = {
        "dense": in_torch(dense.to(device).eval(), runtime),
        "compressed": in_torch(compressed.to(device).eval(), runtime),
    }
    entries: list[dict[str, Any]] = []
    for name, inputs in workloads.items():
        given = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        calls = {side: each.call for side, each in sides.items()}
        timings = interleaved(calls, given, warmup=warmup, repeats=repeats, seconds=seconds)
        figures = {side: told(each, given, timings[side]) for side, each in sides.items()}
        entries.append(
            {
                **setting(name, device, warmup, timings["dense"]),
                "dtype": sides["compressed"].dtype,
                "runtime": runtime,
                "notes": list(notes),
                "speed_up": paired_ratio(timings["dense"], timings["compressed"]),
                **figures,
            }
        )
    return entries


def setting(workload: str, device: torch.device, warmup: int, timing: Timing) -> dict[str, Any]:
    """What an entry of the record's `speed` says of how it was measured."""
    return {
        "workload": workload,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "neighbours": neighbours(),
        "warmup": warmup,
        "repeats": len(timing.seconds),
    }


def told(contender: Contender, inputs: Mapping[str, Any], timing: Timing) -> dict[str, Any]:
    """Latency in ms, throughput in samples per second, peak memory in bytes (None: unknown)."""
    return {
        **timing.latency_ms,
        "throughput": timing.throughput_per_second,
        "peak_memory_bytes": contender.peak(inputs),
    }


def paired_ratio(dense: Timing, compressed: Timing) -> dict[str, float]:
    """Dense / compressed seconds, turn by turn: the median, and its 95% interval by order
    statistics, which assumes nothing about how times are distributed. Above 1 is faster."""
    ratios = sorted(a / b for a, b in zip(dense.seconds, compressed.seconds, strict=True))
    count, tail, outside = len(ratios), 0.0, 0
    for below in range(count // 2):
        tail += math.comb(count, below) / 2**count
        if 2 * tail > 0.05:
            break
        outside = below
    return {
        "p50": statistics.median(ratios),
        "low": ratios[outside],
        "high": ratios[count - 1 - outside],
    }


def device_name(device: str | torch.device = "cpu") -> str:
    """What the device calls itself, e.g. "NVIDIA H100 80GB HBM3" or the processor's model name."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "cpu"


def _call(model: Callable[..., Any], inputs: Mapping[str, Any]) -> Callable[[], Any]:
    return lambda: model(**inputs)


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device


def _timer(device: torch.device) -> Callable[[Callable[[], Any]], float]:
    if device.type != "cuda":
        return _by_clock
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def by_events(call: Callable[[], Any]) -> float:
        torch.cuda.synchronize(device)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end) / 1e3

    return by_events


def _by_clock(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _quantile(values: tuple[float, ...], q: float) -> float:
    if len(values) == 1:
        return values[0]
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[round(100 * q) - 1]


def _dtype(model: nn.Module) -> str:
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters()}
    return "+".join(sorted(kinds))
