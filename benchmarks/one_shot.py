"""What pruning one layer in one shot costs: Wanda and SparseGPT, seconds and peak memory.

    python benchmarks/one_shot.py                # on the CPU: a 1024 x 2752 layer, 32 x 256 tokens
    python benchmarks/one_shot.py --preset gpu   # a 4096 x 11008 layer, 128 x 2048 tokens

The layer (out x in) is drawn, its inputs are drawn and correlated, one window of tokens at a time,
so that they are not in memory together; drawing is not timed. Timed are the two parts of each
method: summing up the inputs of all windows, and pruning to 2:4. Each arm runs in a process of its
own, so that peaks are its own; arms take turns, the fastest repetition of each is told, and two
arms are compared by the median of the repetitions' ratios.

Where llm-compressor is installed beside gossamer (it need not be: it may want another torch), the
two functions of its SparseGPT modifier are an arm as well, on the same layer and the same inputs:

    PYTHONPATH=src python benchmarks/one_shot.py   # with the Python that has llmcompressor

The result goes to benchmarks/results/one_shot-<cpu|cuda>.json. The gpu preset was never run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.sparsity import scores
from gossamer.sparsity.obs import sparsegpt
from gossamer.sparsity.patterns import parse
from gossamer.sparsity.statistics import Hessian, InputNorm

PEER = "llm-compressor sparsegpt"
TWO_FOUR = parse("2:4")


@dataclass(frozen=True)
class Preset:
    device: str
    out: int
    width: int
    windows: int
    tokens: int  # of a window


PRESETS = {
    "cpu": Preset("cpu", 1024, 2752, 32, 256),
    "gpu": Preset("cuda", 4096, 11008, 128, 2048),
}


def inputs(preset: Preset) -> Iterator[Tensor]:
    """(1, tokens, in) of each window: a few causes that features share, and noise."""
    draw = torch.Generator(preset.device).manual_seed(0)
    options: Any = {"generator": draw, "device": preset.device}
    mix = torch.randn(256, preset.width, **options) / 16
    for _ in range(preset.windows):
        causes = torch.randn(preset.tokens, 256, **options)
        yield (causes @ mix + 0.3 * torch.randn(preset.tokens, preset.width, **options))[None]


def layer_of(preset: Preset) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(preset.width, preset.out, bias=False).to(preset.device).requires_grad_(False)


class Wanda:
    def __init__(self) -> None:
        self.seen = InputNorm()

    def add(self, layer: nn.Linear, x: Tensor) -> None:
        self.seen.add(x.flatten(0, -2))

    def prune(self, layer: nn.Linear) -> None:
        score = scores.wanda(layer.weight, self.seen.value())
        layer.weight.mul_(TWO_FOUR.mask(score, None))


class SparseGpt:
    def __init__(self) -> None:
        self.seen = Hessian()

    def add(self, layer: nn.Linear, x: Tensor) -> None:
        self.seen.add(x.flatten(0, -2))

    def prune(self, layer: nn.Linear) -> None:
        layer.weight.copy_(sparsegpt(layer.weight, self.seen.value(), TWO_FOUR, 0.5)[0])


class Peer:
    """llm-compressor's SparseGPT modifier, by the two functions that it calls for a layer."""

    def __init__(self) -> None:
        from llmcompressor.modifiers.pruning.sparsegpt import sgpt_sparsify

        self.own = sgpt_sparsify
        self.hessian: Tensor | None = None
        self.samples = 0

    def add(self, layer: nn.Linear, x: Tensor) -> None:
        if self.hessian is None:
            self.hessian = self.own.make_empty_hessian(layer)
        self.hessian, self.samples = self.own.accumulate_hessian(
            x, layer, self.hessian, self.samples
        )

    def prune(self, layer: nn.Linear) -> None:
        hessians = {layer: self.hessian}
        self.hessian = None  # or it would be in memory twice
        _, weight = self.own.sparsify_weight(
            layer, hessians, 0.5, 2, 4, 128, 0.01, preserve_sparsity_mask=False
        )
        layer.weight.copy_(weight)


ARMS = {"wanda": Wanda, "sparsegpt": SparseGpt, PEER: Peer}


def measure(name: str, preset: Preset) -> dict[str, float]:
    """One arm on one layer: seconds of both parts, peak bytes above what was there, and the mean
    squared error of the pruned layer's outputs relative to their mean square."""
    layer = layer_of(preset)
    dense = layer.weight.clone()
    arm = ARMS[name]()
    cuda = preset.device == "cuda"
    for x in inputs(preset):  # what a first call sets up is not the method's cost
        x[0].T @ x[0]
        break
    torch.linalg.cholesky(torch.eye(8, device=preset.device))
    start = memory(cuda, reset=True)
    gathering = 0.0
    for x in inputs(preset):
        gathering -= now(cuda)
        arm.add(layer, x)
        gathering += now(cuda)
    pruning = -now(cuda)
    arm.prune(layer)
    pruning += now(cuda)
    peak = memory(cuda)
    alive = (layer.weight != 0).reshape(-1, 4).sum(1)
    if int(alive.max()) > 2:
        raise SystemExit(f"{name}: a group of four has {int(alive.max())} weights")
    wrong = total = 0.0
    for x in inputs(preset):
        wrong += float(((layer.weight - dense) @ x[0].T).square().sum())
        total += float((dense @ x[0].T).square().sum())
    return {
        "gathering": gathering,
        "pruning": pruning,
        "seconds": gathering + pruning,
        "peak_bytes": peak - start,
        "error": wrong / total,
    }


def now(cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def memory(cuda: bool, reset: bool = False) -> int:
    """Peak bytes since the last reset: of the device's allocator, or of this process (Linux)."""
    if cuda:
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) * 1024


def alone(name: str, preset: str, threads: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--preset", preset, "--arm", name]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{name} failed:\n{ran.stderr}")
    return json.loads(ran.stdout.splitlines()[-1])


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arm", choices=ARMS, help="measure this one, here, and print it")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    if args.arm:
        print(json.dumps(measure(args.arm, preset)))
        return
    peer = importlib.util.find_spec("llmcompressor") is not None
    arms = [name for name in ARMS if peer or name != PEER]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for _ in range(args.repeats):
        for name in arms:
            runs[name].append(alone(name, args.preset, args.threads))
    best = {name: min(made, key=lambda one: one["seconds"]) for name, made in runs.items()}
    packages = ["torch", *(["llmcompressor"] if peer else [])]
    told = {
        "device": device_name(preset.device),
        "threads": args.threads,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "date": date.today().isoformat(),
        "layer": asdict(preset),
        "pattern": "2:4",
        "repeats": args.repeats,
        "arms": best,
        "all": runs,
    }
    if peer:
        both = zip(runs["sparsegpt"], runs[PEER], strict=True)
        ratios = sorted(mine["seconds"] / other["seconds"] for mine, other in both)
        told["sparsegpt_over_peer"] = {
            "median": statistics.median(ratios),
            "low": ratios[0],
            "high": ratios[-1],
        }
    file = Path(__file__).parent / "results" / f"one_shot-{preset.device}.json"
    file.write_text(json.dumps(told, indent=1) + "\n")
    for name, one in best.items():
        print(
            f"{name:26} {one['seconds']:8.2f} s (inputs {one['gathering']:.2f}, pruning "
            f"{one['pruning']:.2f}), {one['peak_bytes'] / 2**20:7.0f} MiB, error {one['error']:.4f}"
        )
    if peer:
        print(
            f"sparsegpt over {PEER}: median {statistics.median(ratios):.2f}, "
            f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        )


if __name__ == "__main__":
    main()
