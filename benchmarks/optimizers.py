"""What AdamS costs: its steps against torch.optim.AdamW's on the same tensors, in turns; and, with
--model, the whole training step of CAST without a teacher against the dense one.

    python benchmarks/optimizers.py [--device cuda] [--turns 30]
    python benchmarks/optimizers.py --model minilm --dataset docstrings --task classification

Both optimizers take many tensors at once (foreach). A turn is ten steps of each, so that one of
them makes the masks again, as one in ten does in training; the ratio is of turns that follow each
other. A training step is timed as in benchmarks/overhead.py, over rounds of twenty steps. Writes
benchmarks/results/optimizers-<device>.json.
"""

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml
from overhead import STEPS, Clocked
from running import RESULTS, ROOT

from gossamer import fit, plan, targets
from gossamer.contract import Stage
from gossamer.measure.speed import Timing, device_name, paired_ratio
from gossamer.run import prepare_torch
from gossamer.sparsity.adams import AdamS
from gossamer.stages import Experiment

TURN = 10  # steps: the period of the masks
# body matrices of the models: (out, in) -> how many; the rest of a model is not in Θ
SHAPES = {
    "200 of 64x64": {(64, 64): 200},
    "3M parameters": {(192, 192): 24, (512, 192): 12, (192, 512): 6},
    "25M parameters": {(512, 512): 32, (1376, 512): 16, (512, 1376): 8},
    "one layer of 7B": {(4096, 4096): 4, (11008, 4096): 2, (4096, 11008): 1},
}


def optimizers(shapes: dict[tuple[int, int], int], device: str) -> dict[str, Callable[[], None]]:
    """A step of each, on tensors of its own with the same values."""

    def parameters() -> list[torch.nn.Parameter]:
        draw = torch.Generator().manual_seed(0)
        made = []
        for shape, count in shapes.items():
            for _ in range(count):
                weight = 0.02 * torch.randn(shape, generator=draw)
                parameter = torch.nn.Parameter(weight.to(device))
                parameter.grad = 1e-3 * torch.randn(shape, generator=draw).to(device)
                made.append(parameter)
        return made

    groups = [{"params": parameters(), "sparse": True}]
    ours = AdamS(groups, lr=1e-5, total_steps=10_000, decay=1e-3, refresh=TURN)
    theirs = torch.optim.AdamW(parameters(), lr=1e-5, betas=(0.9, 0.95), foreach=True)
    return {"AdamS": ours.step, "AdamW": theirs.step}


def turn(step: Callable[[], Any], device: str) -> float:
    """Seconds of a step, over ten."""
    began = time.perf_counter()
    for _ in range(TURN):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / TURN


def in_turns(
    runs: dict[str, Callable[[], list[float]]], turns: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of the median step of each, and the first over the second, paired."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(turns):
        for name in list(runs)[:: 1 if number % 2 == 0 else -1]:
            seconds[name] += runs[name]()
    first, second = (Timing(tuple(each), 1) for each in seconds.values())
    ratio = {name: round(value, 3) for name, value in paired_ratio(first, second).items()}
    return {n: round(1e3 * sorted(s)[len(s) // 2], 3) for n, s in seconds.items()}, ratio


def compare_optimizers(turns: int, device: str) -> dict[str, Any]:
    results = {}
    for name, shapes in SHAPES.items():
        steps = optimizers(shapes, device)
        for step in steps.values():
            turn(step, device)
        runs = {n: (lambda step=step: [turn(step, device)]) for n, step in steps.items()}
        milliseconds, ratio = in_turns(runs, turns)
        entries = sum(rows * columns * count for (rows, columns), count in shapes.items())
        results[name] = {"entries": entries, "ms_p50": milliseconds, "AdamS_over_AdamW": ratio}
        print(name, json.dumps(results[name]), flush=True)
    return results


def experiment(args: argparse.Namespace) -> Experiment:
    def node(name: str, **changes: Any) -> dict[str, Any]:
        content = yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text())
        content.pop("defaults", None)
        return {**content, **changes}

    made = plan.checked(
        {
            "seed": 1,
            "model": node(f"model/{args.model}"),
            "task": node(f"task/{args.task}"),
            "dataset": node(f"dataset/{args.dataset}", batch_size=args.batch),
            "trainer": node("trainer/default", checkpoint_every=0, progress=False),
            "compression": {},
        }
    )
    prepare_torch(made.training)
    made.open()
    return made


def compare_steps(args: argparse.Namespace) -> dict[str, Any]:
    """The step of CAST (scaled weights, AdamS, no teacher) over the dense one's, in the engine."""
    made = experiment(args)
    cast = targets.build(
        {**yaml.safe_load((ROOT / "conf/compression/cast.yaml").read_text()), "distill": 0.0}
    )
    data, first = Clocked(made.data), [0]
    dense = made.start()
    model = copy.deepcopy(dense)
    cast.prepare(model)
    with tempfile.TemporaryDirectory() as folder:

        def round_of(model: torch.nn.Module, methods: list[Any]) -> list[float]:
            training = made.training
            stage = Stage("train", lr=training.lr, schedule=training.schedule, steps=STEPS)
            for method in methods:
                method.enter(stage, model)
            actors = [made.builder, made.task, *methods]
            fit.train(
                fit.Fit(
                    model=model.to(training.device()),
                    task=made.task,
                    actors=actors,
                    data=data,
                    stage=stage,
                    training=training,
                    first=first[0],
                    seed=0,
                    checkpoint=Path(folder) / "checkpoint.pt",
                    best=Path(folder) / "best.pt",
                )
            )
            first[0] += STEPS
            return list(data.seconds())

        runs = {"CAST": lambda: round_of(model, [cast]), "dense": lambda: round_of(dense, [])}
        milliseconds, ratio = in_turns(runs, args.rounds)
    return {
        "model": args.model,
        "dataset": args.dataset,
        "batch": args.batch,
        "ms_p50": milliseconds,
        "CAST_over_dense": ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--model", help="also time whole steps of this model")
    parser.add_argument("--dataset", default="docstrings")
    parser.add_argument("--task", default="classification")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    result = {
        "optimizers": compare_optimizers(args.turns, args.device),
        "step": compare_steps(args) if args.model else None,
        "device": device_name(args.device),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    print(json.dumps(result, indent=1))
    (RESULTS / f"optimizers-{args.device}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
