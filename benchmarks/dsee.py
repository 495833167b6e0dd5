"""DSEE against full fine-tuning, LoRA and magnitude pruning: same start, equal total steps.

    python benchmarks/dsee.py --data FOLDER                 CPU preset, at most 2 hours on 2 cores
    python benchmarks/dsee.py --data FOLDER --preset gpu    five GLUE-style tasks in full

FOLDER holds one folder of parquet files per data set (sst2_sentence; for the GPU preset sst2, mr,
cola, mrpc, rte). Every arm is an ordinary run: started again, the script skips what is done and
resumes what was cut. Latency is what each run measured in turns with its own dense twin; over seeds
the median is averaged and the widest interval kept. Writes the table into docs/methods/dsee.md and
the figures into benchmarks/results/.
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from running import RESULTS, ROOT, between, record_of

from gossamer.records import record as records
from gossamer.records.intervals import mean_interval
from gossamer.records.table import speed_up

PAGE = ROOT / "docs" / "methods" / "dsee.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
FULL = "full fine-tuning"


@dataclass(frozen=True)
class Preset:
    tasks: dict[str, tuple[str, ...]]  # folder of the data set -> its overrides
    steps: dict[str, int]  # of a whole run, base and compression together
    common: tuple[str, ...]
    lr: str  # of full fine-tuning and of magnitude pruning's recovery
    adapter_lr: str  # of LoRA and DSEE
    told: str


TEXT = ("dataset=text_folder", "dataset.overlap=drop")
PRESETS = {
    "cpu": Preset(
        tasks={"sst2_sentence": TEXT},
        steps={"sst2_sentence": 120},
        common=("dataset.batch_size=16", "dataset.max_length=32", "trainer.validation_batches=16"),
        lr="5e-5",
        adapter_lr="1e-3",
        told="120 steps in all, batch 16, at most 32 tokens",
    ),
    "gpu": Preset(
        tasks={
            "sst2": ("dataset=glue/sst2",),
            "mr": TEXT,
            "cola": ("dataset=glue/cola",),
            "mrpc": ("dataset=glue/mrpc",),
            "rte": ("dataset=glue/rte",),
        },
        steps={"sst2": 6000, "mr": 1600, "cola": 1600, "mrpc": 690, "rte": 700},
        common=("dataset.max_length=128", "trainer.precision=bf16-mixed", "dataset.workers=4"),
        lr="5e-5",
        adapter_lr="5e-4",
        told="about 3 epochs (RTE 10, MRPC and CoLA 6), batch 32, at most 128 tokens",
    ),
}


def arms(preset: Preset, steps: int) -> dict[str, list[str]]:
    """Name -> overrides. Magnitude pruning starts from a dense base that had half of the steps, or
    all of them where nothing is left for a recovery."""
    half = [f"trainer.base_steps={steps // 2}", f"trainer.steps={steps - steps // 2}"]
    early = [f"trainer.base_steps={steps}", "trainer.steps=0"]
    lora = [*half, "compression=lora", f"compression.lora.lr={preset.adapter_lr}"]
    dsee = [*half, "compression=dsee", f"compression.dsee.lr={preset.adapter_lr}"]
    cut = ["compression.dsee.sparsity=0", "compression.dsee.heads=0.25"]
    cut += ["compression.dsee.neurons=0.3"]
    found = {
        FULL: [*half, "compression=none"],
        "LoRA": lora,
        "DSEE, dense W": [*dsee, "compression.dsee.sparsity=0"],
    }
    for share in (50, 70, 80):
        found[f"DSEE {share}%"] = [*dsee, f"compression.dsee.sparsity={share / 100}"]
    found["DSEE 50%, masks by magnitude"] = [*dsee, "compression.dsee.score=weight"]
    found["DSEE structured"] = [*dsee, *cut]
    for share in (50, 70, 80):
        pruned = ["compression=magnitude", f"compression.magnitude.sparsity={share / 100}"]
        found[f"magnitude {share}%"] = [*half, *pruned]
        found[f"magnitude {share}%, no recovery"] = [*early, *pruned]
    return found


def run(task: str, seed: int, arm: list[str], args: argparse.Namespace) -> Path:
    """The record of one arm with one seed, made now if it is not there."""
    preset = PRESETS[args.preset]
    words = [
        "model=minilm",
        *preset.tasks[task],
        f"dataset.path={args.data / task}",
        *preset.common,
        f"trainer.lr={preset.lr}",
        *arm,
        f"seed={seed}",
        f"outputs={args.outputs}",
        "trainer.progress=false",
    ]
    path = record_of(words, threads=max(1, args.threads // args.workers))
    print(f"{task} seed {seed}: {path}", flush=True)
    return path


def summarise(
    name: str, members: list[dict[str, Any]], full: list[dict[str, Any]]
) -> dict[str, Any]:
    """One row of the table: means and 95% t intervals over seeds, paired with full fine-tuning."""
    primary = members[0]["quality"]["primary"]
    quality = [100 * member["quality"]["compressed"][primary] for member in members]
    dense = [100 * member["quality"]["compressed"][primary] for member in full]
    one = members[0]
    body = [row for row in one["layers"] if not row["skipped"]]
    weights = sum(row["shape"][0] * row["shape"][1] for row in body)
    speeds: dict[str, list[dict[str, float]]] = {}
    for member in members:
        for entry in member["speed"]:
            if entry["device"] != one["speed"][-1]["device"]:
                continue  # a GPU run measures on the CPU as well
            speeds.setdefault(entry["workload"], []).append(entry["speed_up"])
    return {
        "arm": name,
        "metric": primary,
        "seeds": len(members),
        "quality": mean_interval(quality),
        "difference": mean_interval([a - b for a, b in zip(quality, dense, strict=True)]),
        "trained": one["size"]["trainable_parameters"],
        "trained_share": one["size"]["trainable_parameters"] / one["size"]["dense_parameters"],
        "zeros": sum(r["shape"][0] * r["shape"][1] * (1 - r["density"]) for r in body) / weights
        if body
        else 0.0,
        "macs": one["compute"]["macs_effective"] / one["compute"]["macs_dense"] - 1,
        "bytes": one["size"]["checkpoint_bytes"],
        "speed": {
            name: {
                "p50": geometric_mean(ratio["p50"] for ratio in ratios),
                "low": min(ratio["low"] for ratio in ratios),
                "high": max(ratio["high"] for ratio in ratios),
            }
            for name, ratios in speeds.items()
        },
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    speeds = list(rows[0]["speed"])
    head = ["", rows[0]["metric"] + ", %", "against full", "trained", "zeros in body", "MACs", "MB"]
    head += [f"latency, {name}" for name in speeds]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            row["arm"],
            f"{row['quality'][0]:.2f} ± {row['quality'][1]:.2f}",
            ""
            if row["arm"] == FULL
            else f"{row['difference'][0]:+.2f} ± {row['difference'][1]:.2f}",
            f"{row['trained']:,} ({row['trained_share']:.2%})",
            f"{row['zeros']:.1%}" if row["zeros"] else "",
            f"{row['macs']:+.1%}" if row["macs"] else "",
            f"{row['bytes'] / 1e6:.1f}",
            *("" if row["arm"] == FULL else speed_up(**row["speed"][name]) for name in speeds),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (1 on a GPU)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of all workers")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/benchmarks/dsee"))
    args = parser.parse_args()
    args.data = args.data.resolve()
    preset = PRESETS[args.preset]
    text, results = [], {}
    for task in preset.tasks:
        todo = arms(preset, preset.steps[task])
        jobs = [(name, seed) for seed in args.seeds for name in todo]
        with ThreadPoolExecutor(args.workers) as pool:
            waiting = {(n, seed): pool.submit(run, task, seed, todo[n], args) for n, seed in jobs}
            paths = {job: made.result() for job, made in waiting.items()}
        found = {name: [records.read(paths[name, seed]) for seed in args.seeds] for name in todo}
        rows = [summarise(name, members, found[FULL]) for name, members in found.items()]
        one = found[FULL][0]
        results[task] = {
            "device": one["speed"][-1]["device"],
            "threads": one["speed"][-1]["threads"],
            "versions": one["versions"],
            "git": one["git"],
            "date": date.today().isoformat(),
            "setting": preset.told,
            "seeds": args.seeds,
            "arms": todo,
            "rows": rows,
        }
        threads, today = one["speed"][-1]["threads"], date.today().isoformat()
        text += [
            f"**{task}**, {args.preset} preset: MiniLM, {preset.told}; {len(args.seeds)} seeds, "
            f"mean ± 95% interval. {one['speed'][-1]['device']}, {threads} thread"
            f"{'s' * (threads > 1)} a run, torch {one['versions']['torch']}, {today}.",
            "",
            *table(rows),
            "",
        ]
    told = {"text": text, "tasks": results}
    (RESULTS / f"dsee-{args.preset}.json").write_text(json.dumps(told, indent=1) + "\n")
    made = [json.loads(file.read_text())["text"] for file in sorted(RESULTS.glob("dsee-*.json"))]
    between(PAGE, BEGIN, END, [line for text in made for line in text])
    print("\n".join(text))


if __name__ == "__main__":
    main()
