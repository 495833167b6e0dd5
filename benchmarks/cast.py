"""CAST against the baselines it must beat: one dense base, equal tokens, tuned learning rates.

    python benchmarks/cast.py --data FOLDER                 CPU preset, at most an hour on 2 cores
    python benchmarks/cast.py --data FOLDER --preset gpu    llama_small, 2:4 and 1:4

FOLDER holds `public_domain_books` (train, validation and test as parquet). The base is one run;
every arm starts from its exported model; one-shot arms prune it as it is, the others have as many
steps each. Each arm's learning rate is the best of ½, 1 and 2 times the preset's, by validation
loss with the first seed, and halved further while the smallest is the best. Every arm is an
ordinary run: started again, the script skips what is done and resumes what was cut. Writes
benchmarks/results/cast-PRESET.json and the tables of docs/methods/cast.md.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cast_tables import DENSE, RETRAINED, expected, page, summarise, validation_loss
from running import RESULTS, ROOT, between, origin, record_of

from gossamer.records import record as records

PAGE = ROOT / "docs" / "methods" / "cast.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
FACTORS = (0.5, 1.0, 2.0)  # of the preset's learning rate
LEAST = 1 / 8  # … and what it is halved to, at most, where the smallest is the best
BUDGETS = (0.25, 0.5)  # shares of the steps at which CAST's gap is looked at besides


@dataclass(frozen=True)
class Preset:
    model: str
    context: int
    batch_size: int
    base_steps: int
    base_lr: float
    steps: int
    lr: float
    patterns: tuple[str, ...]
    held_out: int  # documents of validation and of test
    common: tuple[str, ...]
    budget_seeds: int  # seeds of CAST at smaller budgets
    workers: int
    threads: int  # of each worker; the base has all of them


PRESETS = {
    "cpu": Preset(
        model="llama_tiny",
        context=64,
        batch_size=8,
        base_steps=6000,
        base_lr=2e-3,
        steps=300,
        lr=5e-4,
        patterns=("2:4",),
        held_out=12,
        common=("trainer.accelerator=cpu", "trainer.validation_batches=48"),
        budget_seeds=1,
        workers=2,
        threads=1,
    ),
    "gpu": Preset(
        model="llama_small",
        context=512,
        batch_size=64,
        base_steps=2000,
        base_lr=1e-3,
        steps=400,
        lr=3e-4,
        patterns=("2:4", "1:4"),
        held_out=90,
        common=("trainer.accelerator=gpu", "trainer.precision=bf16-mixed", "dataset.workers=2"),
        budget_seeds=3,
        workers=4,
        threads=4,
    ),
}


@dataclass(frozen=True)
class Bench:
    """A preset on a machine: where the data and the runs are."""

    preset: Preset
    data: Path
    outputs: Path

    def common(self) -> list[str]:
        preset = self.preset
        return [
            "dataset=lm_folder",
            f"dataset.path={self.data}",
            f"dataset.context={preset.context}",
            f"dataset.batch_size={preset.batch_size}",
            f"dataset.held_out={preset.held_out}",
            *preset.common,
            "trainer.base_steps=0",
            "trainer.schedule=cosine",
            "trainer.warmup=0.05",
            f"outputs={self.outputs}",
            "trainer.progress=false",
            "trainer.checkpoint_every=200",
        ]

    def base(self) -> Path:
        """The dense base's exported model."""
        preset = self.preset
        words = [
            f"model={preset.model}",
            *self.common(),
            f"trainer.steps={preset.base_steps}",
            f"trainer.lr={preset.base_lr:g}",
            "name=base",
        ]
        return record_of(words, preset.workers * preset.threads).parent / "export"

    def run(self, base: Path, arm: Sequence[str], seed: int, lr: float, steps: int) -> Path:
        words = [
            "model=llama",
            f"model.source={base}",
            *self.common(),
            f"trainer.steps={steps}",
            f"trainer.lr={lr:g}",
            *arm,
            f"seed={seed}",
        ]
        began = time.monotonic()
        path = record_of(words, self.preset.threads)
        told = " ".join(arm)
        print(f"{time.monotonic() - began:6.0f} s  seed {seed}  lr {lr:g}  {told}", flush=True)
        return path


def arms(pattern: str) -> dict[str, list[str]]:
    """Name -> overrides."""
    kept, of = map(int, pattern.split(":"))

    def method(name: str, *settings: str) -> list[str]:
        own = [f"pattern='{pattern}'", *settings]
        return [f"compression={name}", *(f"compression.{name}.{setting}" for setting in own)]

    zeros = f"sparsity={1 - kept / of:g}"
    cast = ("decay=null",)  # λ is measured: the root mean square of the first gradients
    return {
        DENSE: ["compression=none"],
        "magnitude": method("magnitude", zeros, "recover=0"),
        "Wanda": method("wanda", zeros),
        "SparseGPT": method("sparsegpt", zeros),
        "fixed mask": method("fixed_mask", zeros),
        "SR-STE": method("sr_ste", zeros),
        "AST": method("ast"),
        "AdamS": method("cast", *cast, "scales=0", "distill=0"),
        "AdamS + A": method("cast", *cast, "distill=0"),
        "CAST": method("cast", *cast),
    }


def best_factor(losses: dict[tuple[str, float], float], name: str) -> float:
    return min((loss, factor) for (arm, factor), loss in losses.items() if arm == name)[1]


def compared(bench: Bench, base: Path, pattern: str, seeds: Sequence[int]) -> dict[str, Any]:
    """All arms of one pattern, tuned, and CAST at smaller budgets."""
    preset, todo = bench.preset, arms(pattern)
    trained = (DENSE, *RETRAINED)
    with ThreadPoolExecutor(preset.workers) as pool:

        def submit(name: str, seed: int, lr: float, share: float = 1.0) -> Any:
            steps = round(share * preset.steps) if name in trained else 0
            return pool.submit(bench.run, base, todo[name], seed, lr, steps)

        tuning = {
            (name, factor): submit(name, seeds[0], factor * preset.lr)
            for name in todo
            for factor in (FACTORS if name in trained else (1.0,))
        }
        losses = {key: validation_loss(made.result()) for key, made in tuning.items()}
        best = {name: best_factor(losses, name) for name in todo}
        while lowest := [
            name for name in trained if best[name] == min(f for n, f in losses if n == name) > LEAST
        ]:
            halved = {
                (n, best[n] / 2): submit(n, seeds[0], best[n] / 2 * preset.lr) for n in lowest
            }
            losses |= {key: validation_loss(made.result()) for key, made in halved.items()}
            best = {name: best_factor(losses, name) for name in todo}
        best = {name: factor * preset.lr for name, factor in best.items()}
        waiting = {
            (name, seed): submit(name, seed, best[name])
            for seed in seeds
            for name in (todo if seed == seeds[0] else trained)
        }
        smaller = {
            (name, seed, share): submit(name, seed, best[name], share)
            for share in BUDGETS
            for seed in seeds[: preset.budget_seeds]
            for name in (DENSE, "CAST")
        }
        paths = {key: made.result() for key, made in waiting.items()}
        less = {key: made.result() for key, made in smaller.items()}

    few = seeds[: preset.budget_seeds]

    def of(name: str) -> list[Path]:
        return [paths[name, seed] for seed in seeds if (name, seed) in paths]

    def of_less(name: str, share: float) -> list[Path]:
        return [paths[name, s] if share == 1 else less[name, s, share] for s in few]

    rows = [summarise(name, best[name], of(name), of(DENSE)[: len(of(name))]) for name in todo]
    budgets = [
        {
            "tokens": round(share * preset.steps) * preset.batch_size * preset.context,
            "seeds": len(few),
            "gap": summarise("CAST", best["CAST"], of_less("CAST", share), of_less(DENSE, share))[
                "gap"
            ],
        }
        for share in (*BUDGETS, 1.0)
    ]
    return {
        "pattern": pattern,
        "tuning": {f"{name}, lr × {factor:g}": loss for (name, factor), loss in losses.items()},
        "rows": rows,
        "budgets": budgets,
        "expected": expected(rows, budgets),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs" / "benchmarks" / "cast")
    args = parser.parse_args()
    preset, began = PRESETS[args.preset], time.monotonic()
    data = (args.data / "public_domain_books").resolve()
    bench = Bench(preset, data, (args.outputs / args.preset).resolve())
    base = bench.base()
    print(f"{time.monotonic() - began:6.0f} s  base", flush=True)
    results = [compared(bench, base, pattern, args.seeds) for pattern in preset.patterns]
    one = records.read(base.parent / "record.json")
    as_is = one["quality"]["compressed"]
    threads = f"{preset.workers} runs at a time, {preset.threads} threads each"
    tokens = preset.batch_size * preset.context
    setting = (
        f"{args.preset.upper()} preset: {preset.model}, {one['size']['parameters']:,} parameters; "
        f"base of {preset.base_steps} steps on public-domain books (test loss {as_is['loss']:.4f}, "
        f"perplexity {as_is['perplexity']:.2f}: dense as it is); each arm {preset.steps} steps of "
        f"{tokens:,} tokens more, cosine schedule, learning rate the best of ½, 1 and 2 × "
        f"{preset.lr:g} on validation with the first seed, halved further while the smallest is "
        f"the best; {len(args.seeds)} seeds, mean ± 95% interval; losses in nats per token. "
        f"{one['device']}, {threads}, torch {one['versions']['torch']}, {date.today().isoformat()}."
    )
    told = {
        "preset": args.preset,
        "setting": setting,
        **origin(one),
        "seconds": round(time.monotonic() - began),  # of this start, which skips what is done
        "dense as is": as_is,
        "results": results,
    }
    (RESULTS / f"cast-{args.preset}.json").write_text(json.dumps(told, indent=1) + "\n")
    made = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("cast-*.json"))]
    between(PAGE, BEGIN, END, [line for each in made for line in page(each)])
    print("\n".join(page(told)))


if __name__ == "__main__":
    main()
