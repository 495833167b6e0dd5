"""Any number of possible finished runs on disk, for tests and benchmarks of what reads records.

Two models × two data sets × methods × sparsities × learning rates × five seeds, in the order in
which a sweep would make them; figures follow a simple rule plus noise, so that something wins.
"""

import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.records.examples import done

MODELS = {"minilm": 22_700_000, "bert_tiny": 4_400_000}
DATASETS = ("docstrings", "sst2")
METHODS = ("none", "lora", "magnitude", "dsee", "lora+magnitude")
SPARSITIES = tuple(round(0.05 * n, 2) for n in range(1, 20))
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SEEDS = 5
LAYERS = 36
STEPS = 160


def runs(count: int) -> Iterator[dict[str, Any]]:
    """`count` records, the seeds of one configuration after each other; the same ones each time."""
    axes = itertools.product(RATES, SPARSITIES, MODELS, DATASETS, METHODS)
    each = ((*configuration, seed) for configuration in axes for seed in range(1, SEEDS + 1))
    for rate, sparsity, model, dataset, method, seed in itertools.islice(each, count):
        yield run(model, dataset, method, sparsity, rate, seed)


def run(
    model: str, dataset: str, method: str, sparsity: float, rate: float, seed: int
) -> dict[str, Any]:
    names = [] if method == "none" else method.split("+")
    config = {
        "seed": seed,
        "twin": "continued",
        "name": f"{model}-{dataset}-{method}",
        "model": {"_target_": "gossamer.models.bert.Bert", "source": model},
        "dataset": {"_target_": "gossamer.data.text.Text", "batch_size": 32, "max_length": 128},
        "trainer": {"_target_": "gossamer.stages.Training", "steps": STEPS // 2, "lr": rate},
        "compression": {name: {"sparsity": sparsity} for name in names},
    }
    text = json.dumps([{**config, "seed": 0}, rate, sparsity])
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    draw = random.Random(f"{digest} {seed}")
    size, dense = MODELS[model], 0.8 + draw.gauss(0, 0.01)
    sparse = "magnitude" in names or "dsee" in names
    lost = (0.02 * len(names) + 0.3 * sparsity**3 * sparse) if names else 0.0
    quality = dense - lost + (draw.gauss(0, 0.01) if names else 0.0)
    ratio = (1.0 + 0.2 * sparsity * sparse) * draw.uniform(0.97, 1.03)
    record = done(
        id=f"{digest}-s{seed}",
        name=config["name"],
        seed=seed,
        config_digest=digest,
        choices={
            "model": model,
            "dataset": dataset,
            "task": "classification",
            "compression": names,
        },
        overrides=[f"compression=[{','.join(names)}]", f"trainer.lr={rate}", f"seed={seed}"],
        sweep="synthetic",
        config=config,
        quality__dense={"accuracy": dense, "loss": 1 - dense},
        quality__compressed={"accuracy": quality, "loss": 1 - quality},
        budget__total=STEPS,
    )
    record["size"] |= {
        "parameters": size,
        "dense_parameters": size,
        "trainable_parameters": size // 150 if "lora" in names or "dsee" in names else size,
        "nonzero_parameters": round(size * (1 - sparsity * sparse)),
        "checkpoint_bytes": round(4 * size * (1 - 0.3 * sparsity * sparse)),
        "dense_checkpoint_bytes": 4 * size,
    }
    record["compute"] |= {
        "macs_dense": 23 * size,
        "macs_effective": round(23 * size * (1 - 0.2 * sparsity * sparse)),
        "macs_nonzero": round(23 * size * (1 - sparsity * sparse)),
    }
    for entry in record["speed"]:
        if "skipped" not in entry:
            entry["speed_up"] = {"p50": ratio, "low": ratio * 0.98, "high": ratio * 1.02}
            entry["compressed"] = {**entry["compressed"], "p50": entry["dense"]["p50"] / ratio}
    record["layers"] = [
        {
            **record["layers"][0],
            "name": f"encoder.layer.{n // 6}.{('q', 'k', 'v', 'o', 'up', 'down')[n % 6]}",
            "density": 1 - sparsity * draw.uniform(0.8, 1.2) if sparse else 1.0,
        }
        for n in range(LAYERS if names else 0)
    ]
    return record


def write(root: Path, count: int) -> list[Path]:
    """Write `count` runs below `root`, each with its record, metrics and environment; the record
    files."""
    written = []
    for record in runs(count):
        folder = root / record["name"] / record["config_digest"] / f"seed{record['seed']}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "export").mkdir(exist_ok=True)
        (folder / "metrics.jsonl").write_text("".join(_metrics(record)))
        (folder / "environment.json").write_text(json.dumps({"python": "3.11", "cpus": 2}))
        path = folder / "record.json"
        path.write_text(json.dumps(record, indent=1))
        written.append(path)
    return written


def _metrics(record: dict[str, Any]) -> Iterator[str]:
    draw = random.Random(record["id"])
    for step in range(10, STEPS + 1, 10):
        loss = 2 / (1 + step / 40) + draw.uniform(0, 0.1)
        yield json.dumps({"step": step, "time": 1.7e9 + step, "train/loss": loss}) + "\n"
    yield (
        json.dumps(
            {
                "step": STEPS,
                "time": 1.7e9 + STEPS,
                "validation/accuracy": 0.75,
                "validation/loss": 0.6,
            }
        )
        + "\n"
    )
