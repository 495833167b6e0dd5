"""GPUSQ-ViT against its parts and baselines: one dense base for each seed, equal steps.

    python benchmarks/gpusq.py --data FOLDER                at most 90 minutes on 2 CPU cores
    python benchmarks/gpusq.py --data FOLDER --preset gpu   all rows, and the shape of DeiT-S

FOLDER holds `fashion_mnist` and `cifar10` (train and test as parquet). Every arm is an ordinary
run: started again, the script skips what is done and resumes what was cut. Writes
benchmarks/results/gpusq-PRESET.json and the tables of docs/methods/gpusq.md.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from running import RESULTS, ROOT, between, origin, record_of

from gossamer.records import record as records
from gossamer.records.intervals import mean_interval

PAGE = ROOT / "docs" / "methods" / "gpusq.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SETS = {"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
PRUNED, TAUGHT = "2:4", "2:4, distilled"
INT8, INT4, UNSUPERVISED = "GPUSQ INT8", "GPUSQ INT4", "GPUSQ INT8, unsupervised"
PTQ, QAT = "PTQ INT8", "QAT INT8"


@dataclass(frozen=True)
class Preset:
    model: tuple[str, ...]
    rows: int | None  # of each split at most
    batch_size: int
    base_steps: int
    base_lr: float
    steps: int
    lr: float  # of the dense twin's and the sparse steps
    quantize_lr: float
    common: tuple[str, ...]
    workers: int
    threads: int  # of each worker


PRESETS = {
    "cpu": Preset(
        model=("model=vit_tiny",),
        rows=4000,
        batch_size=32,
        base_steps=800,
        base_lr=5e-4,
        steps=80,
        lr=5e-4,
        quantize_lr=1e-4,
        common=("trainer.accelerator=cpu", "trainer.validation_batches=16"),
        workers=2,
        threads=1,
    ),
    "gpu": Preset(
        model=(
            "model=vit",
            "model.source=deit_small_patch16_224",
            "model.weights=init",
            "model.patch=4",
        ),
        rows=None,
        batch_size=512,
        base_steps=6000,
        base_lr=1e-3,
        steps=2000,
        lr=2e-4,
        quantize_lr=2e-5,
        common=("trainer.accelerator=gpu", "trainer.precision=bf16-mixed", "dataset.workers=4"),
        workers=2,
        threads=8,
    ),
}


def arms(preset: Preset) -> dict[str, list[str]]:
    """Name -> overrides. The dense model is every arm's own twin."""

    def method(name: str, **settings: Any) -> list[str]:
        own = [f"compression.{name}.{key}={value}" for key, value in settings.items()]
        return [f"compression={name}", *own]

    lrs = {"lr": preset.lr, "quantize_lr": preset.quantize_lr}
    return {
        PRUNED: method("nm_prune", beta=0, gamma=0),
        TAUGHT: method("nm_prune"),
        PTQ: method("ptq"),
        QAT: method("qat", lr=preset.quantize_lr),
        INT8: method("gpusq", **lrs),
        INT4: method("gpusq", bits=4, **lrs),
        UNSUPERVISED: method("gpusq", hard_target="teacher", **lrs),
    }


def run(preset: Preset, data: Path, name: str, arm: list[str], seed: int, outputs: Path) -> Path:
    words = [
        *preset.model,
        f"dataset={name}",
        f"dataset.path={data / name}",
        f"dataset.batch_size={preset.batch_size}",
        *([] if preset.rows is None else [f"dataset.limit={preset.rows}"]),
        *preset.common,
        f"trainer.base_steps={preset.base_steps}",
        f"trainer.steps={preset.steps}",
        f"trainer.lr={preset.base_lr:g}",
        "trainer.schedule=cosine",
        "trainer.warmup=0.05",
        "trainer.checkpoint_every=100",
        "trainer.progress=false",
        f"outputs={outputs}",
        *arm,
        f"seed={seed}",
    ]
    began = time.monotonic()
    path = record_of(words, preset.threads)
    print(f"{time.monotonic() - began:6.0f} s  {name}  seed {seed}  {' '.join(arm)}", flush=True)
    return path


def summarise(
    name: str, paths: Sequence[Path], bases: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Over the seeds: top-1 accuracy in points, against the dense base as it is and against the
    dense twin of the same steps; sizes."""
    told = [records.read(path) for path in paths]

    def of(side: str) -> list[float]:
        return [100 * one["quality"][side]["accuracy"] for one in told]

    def change(dense: Sequence[float]) -> list[float | None]:
        pairs = zip(of("compressed"), dense, strict=True)
        return list(mean_interval([after - before for after, before in pairs]))

    size = told[0]["size"]
    counted = size["format_bytes"]
    return {
        "arm": name,
        "accuracy": list(mean_interval(of("compressed"))),
        "base": change([100 * one["quality"]["dense"]["accuracy"] for one in bases]),
        "twin": change(of("dense")),
        "twin_accuracy": list(mean_interval(of("dense"))),
        "disk": size["dense_checkpoint_bytes"] / size["checkpoint_bytes"],
        "format": size["dense_format_bytes"] / counted if counted else None,
        "bits": size["bits_per_weight"],
        "seeds": len(told),
    }


def expected(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was expected, and what is seen, against the better one of the two dense models."""
    by = {row["arm"]: row for row in rows}

    def said(what: str, figure: str, held: bool) -> str:
        return f"- {what}: {figure}; {'held' if held else '**missed**'}"

    drop8, drop4 = (min(by[arm]["base"][0], by[arm]["twin"][0]) for arm in (INT8, INT4))
    small8, small4 = by[INT8]["format"], by[INT4]["format"]
    gain = by[TAUGHT]["accuracy"][0] - by[PRUNED]["accuracy"][0]
    return [
        said("INT8 within 0.5 points of the better dense model", f"{drop8:+.2f}", drop8 >= -0.5),
        said("INT4 within 1.0 points of it", f"{drop4:+.2f}", drop4 >= -1.0),
        said("INT8 at least 6× smaller by the format", f"{small8:.2f}×", small8 >= 6),
        said("INT4 at least 11× smaller by the format", f"{small4:.2f}×", small4 >= 11),
        said("2:4 with distillation no worse than without", f"{gain:+.2f}", gain >= 0),
    ]


def table(rows: Sequence[Mapping[str, Any]], base: Sequence[float | None]) -> list[str]:
    def pm(pair: Sequence[float | None], sign: str = "") -> str:
        value, half = pair
        return f"{value:{sign}.2f}" + ("" if half is None else f" ± {half:.2f}")

    lines = [
        "| | top-1, % | against the base, points | against its dense twin, points "
        "| smaller on disk | … by the format | bits per weight |",
        "|---|---|---|---|---|---|---|",
        f"| dense base | {pm(base)} | | | | | |",
    ]
    for row in rows:
        counted = "–" if row["format"] is None else f"{row['format']:.2f}×"
        twin = f"{pm(row['twin'], '+')} (of {row['twin_accuracy'][0]:.2f})"
        lines.append(
            f"| {row['arm']} | {pm(row['accuracy'])} | {pm(row['base'], '+')} | {twin} "
            f"| {row['disk']:.2f}× | {counted} | {row['bits']:.2f} |"
        )
    return lines


def page(told: Mapping[str, Any]) -> list[str]:
    lines = ["", f"{told['setting']}", ""]
    for name, result in told["results"].items():
        lines += [f"**{SETS[name]}**", "", *table(result["rows"], result["base"]), ""]
        lines += [*result["expected"], ""]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs" / "benchmarks" / "gpusq")
    args = parser.parse_args()
    preset, began = PRESETS[args.preset], time.monotonic()
    data, outputs = args.data.resolve(), (args.outputs / args.preset).resolve()
    todo = arms(preset)
    with ThreadPoolExecutor(preset.workers) as pool:
        made = {
            (name, arm, seed): pool.submit(run, preset, data, name, words, seed, outputs)
            for seed in args.seeds  # a whole seed first, so that a cut benchmark has one
            for arm, words in todo.items()
            for name in SETS
        }
        paths = {key: one.result() for key, one in made.items()}
    results = {}
    for name in SETS:
        # without a training step of its own, what PTQ is paired with is the base
        bases = [records.read(paths[name, PTQ, seed]) for seed in args.seeds]
        rows = [summarise(arm, [paths[name, arm, s] for s in args.seeds], bases) for arm in todo]
        base = mean_interval([100 * one["quality"]["dense"]["accuracy"] for one in bases])
        results[name] = {"base": list(base), "rows": rows, "expected": expected(rows)}
    one = records.read(paths["cifar10", INT8, args.seeds[0]])
    rows = "all rows" if preset.rows is None else f"at most {preset.rows:,} rows of each split"
    setting = (
        f"{args.preset.upper()} preset: {' '.join(preset.model)}, "
        f"{one['size']['dense_parameters']:,} parameters on CIFAR-10; {rows}; base of "
        f"{preset.base_steps} steps of {preset.batch_size} images, every arm {preset.steps} more "
        f"(the dense twin too; PTQ none, against the base), cosine schedule, learning rate "
        f"{preset.base_lr:g}, sparse {preset.lr:g}, on the grid {preset.quantize_lr:g}; "
        f"{len(args.seeds)} seeds, mean ± 95% interval, changes paired by seed. {one['device']}, "
        f"{preset.workers} runs at a time, {preset.threads} threads each, torch "
        f"{one['versions']['torch']}, {date.today().isoformat()}."
    )
    told = {
        "preset": args.preset,
        "setting": setting,
        **origin(one),
        "seconds": round(time.monotonic() - began),  # of this start, which skips what is done
        "results": results,
    }
    (RESULTS / f"gpusq-{args.preset}.json").write_text(json.dumps(told, indent=1) + "\n")
    every = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("gpusq-*.json"))]
    between(PAGE, BEGIN, END, [line for each in every for line in page(each)])
    print("\n".join(page(told)))


if __name__ == "__main__":
    main()
