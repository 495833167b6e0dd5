"""What the engine costs: its training step against a bare PyTorch loop's, in turns, in one process.

    python benchmarks/overhead.py [--model minilm] [--batch 32] [--length 48] [--rounds 5]

Same model, same batches, same AdamW, gradient clipping and learning-rate schedule. A round is
twenty steps of each; a step's time is from one batch being asked for to the next, so it includes
everything that the engine does in between (hooks, logging every 10 steps to a file). Writes
benchmarks/results/overhead-<device>.json.
"""

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml

from gossamer import fit, plan
from gossamer.contract import Stage
from gossamer.measure.speed import Timing, device_name, paired_ratio
from gossamer.records.metrics import Metrics
from gossamer.run import prepare_torch
from gossamer.stages import Experiment

ROOT = Path(__file__).parent.parent
STEPS = 20  # of a round; the first is warm-up


class Clocked:
    """The experiment's data, noting when each batch is asked for."""

    def __init__(self, data: Any) -> None:
        self.data, self.asked = data, [0.0]

    def train_batches(self, seed: int, first: int, count: int) -> Iterable[Any]:
        return Noted(self.data.train_batches(seed, first, count), self)

    def seconds(self) -> tuple[float, ...]:
        """Of each step but the first and the last: Lightning asks one batch ahead, not after it."""
        return tuple(b - a for a, b in pairwise(self.asked[1:STEPS]))


class Noted:
    def __init__(self, loader: Any, owner: Clocked) -> None:
        self.loader, self.owner = loader, owner

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.owner.asked = []
        batches = iter(self.loader)
        while True:
            self.owner.asked.append(time.perf_counter())
            try:
                yield next(batches)
            except StopIteration:
                return


def bare(model: torch.nn.Module, task: Any, data: Clocked, training: Any, first: int) -> None:
    """The loop that a careful person would write for the same training."""
    device = training.device()
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    model.to(device).train()
    for batch in data.train_batches(0, first, STEPS):
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        loss = task.loss(batch, task.forward(model, batch))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimizer.step()
        schedule.step()
    if device.type == "cuda":
        torch.cuda.synchronize()


def engine(
    model: torch.nn.Module, made: Experiment, data: Clocked, first: int, folder: Path, log: Any
) -> None:
    fit.train(
        fit.Fit(
            model=model,
            task=made.task,
            actors=[made.builder, made.task],
            data=data,
            stage=Stage("train", steps=STEPS),
            training=made.training,
            first=first,
            seed=0,
            checkpoint=folder / "checkpoint.pt",
            best=folder / "best.pt",
            log=log,
        )
    )


def experiment(args: argparse.Namespace) -> Experiment:
    def node(name: str, **changes: Any) -> dict[str, Any]:
        content = yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text())
        content.pop("defaults", None)
        return {**content, **changes}

    made = plan.checked(
        {
            "seed": 1,
            "model": node(f"model/{args.model}"),
            "task": node("task/classification"),
            "dataset": node("dataset/docstrings", batch_size=args.batch, max_length=args.length),
            "trainer": node("trainer/default", checkpoint_every=0, progress=False),
            "compression": {},
        }
    )
    prepare_torch(made.training)
    made.open()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    made = experiment(args)
    ours = made.start()
    theirs = copy.deepcopy(ours)
    data = Clocked(made.data)
    seconds: dict[str, list[float]] = {"engine": [], "bare loop": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        Metrics(folder, {"logger": {"_target_": "gossamer.records.loggers.Null"}}) as metrics,
    ):
        for turn in range(args.rounds):
            first = turn * STEPS
            runs = {
                "engine": lambda: engine(ours, made, data, first, Path(folder), metrics.log),  # noqa: B023
                "bare loop": lambda: bare(theirs, made.task, data, made.training, first),  # noqa: B023
            }
            for name in list(runs)[:: 1 if turn % 2 == 0 else -1]:
                runs[name]()
                seconds[name] += data.seconds()
    ratio = paired_ratio(
        Timing(tuple(seconds["engine"]), args.batch),
        Timing(tuple(seconds["bare loop"]), args.batch),
    )
    device = made.training.device()
    result = {
        "model": args.model,
        "batch": args.batch,
        "length": args.length,
        "steps": len(seconds["engine"]),
        "ms_p50": {name: round(1e3 * sorted(t)[len(t) // 2], 3) for name, t in seconds.items()},
        "engine_over_bare_loop": {name: round(value, 4) for name, value in ratio.items()},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    print(json.dumps(result, indent=1))
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"overhead-{device.type}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
