"""Records of one method at several budgets, whose gap to the dense twin is known."""

import hashlib
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gossamer.records import record as records
from tests.records.examples import changed, done

PER_STEP = 4096  # tokens
STEPS = (250, 500, 1000, 2000)


def power(a: float = 20.0, b: float = 0.3, c: float = 0.0) -> Callable[[float], float]:
    return lambda tokens: a * tokens**-b + c


def run(
    steps: int,
    seed: int,
    gap: float,
    method: str = "cast",
    overrides: Iterable[str] = (),
    config: Iterable[tuple[str, str, Any]] = (),
    **changes: Any,
) -> dict[str, Any]:
    """A finished run whose loss is `gap` above its twin's; `config` are (part, key, value)."""
    resolved: dict[str, Any] = {
        "seed": seed,
        "twin": "continued",
        "model": {"source": "llama_tiny"},
        "dataset": {"context": 256, "batch_size": 16},
        "trainer": {"steps": steps, "base_steps": 300, "lr": 1e-3},
        "compression": {method: {"pattern": "2:4"}},
    }
    for part, key, value in config:
        resolved[part][key] = value
    told = json.dumps([method, {**resolved, "seed": 0}])
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    record = done(
        id=f"{digest}-s{seed}",
        name=f"llama_tiny-stdlib-{method}",
        seed=seed,
        config_digest=digest,
        config=resolved,
        overrides=[
            "model=llama_tiny",
            f"compression={method}",
            *overrides,
            f"trainer.steps={steps}",
            f"seed={seed}",
        ],
        choices={
            "model": "llama_tiny",
            "dataset": "stdlib",
            "task": "language_modelling",
            "compression": [method],
        },
        quality__dense={"loss": 2.0, "perplexity": 7.4, "speediness": 1.0},
        quality__compressed={"loss": 2.0 + gap, "perplexity": 7.4 + 7 * gap, "speediness": 0.5},
        quality__primary="perplexity",
        quality__direction="min",
        budget__base=300,
        budget__steps=steps,
        budget__total=300 + steps,
        budget__twin=[300, steps],
        budget__tokens=steps * PER_STEP,
    )
    return changed(record, **changes)


def runs(
    law: Callable[[float], float],
    steps: Iterable[int] = STEPS,
    seeds: Iterable[int] = (1, 2, 3),
    noise: float = 0.005,
    draw: int = 0,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Runs at each budget and seed, their gaps by `law` of the tokens plus normal noise."""
    source = random.Random(draw)
    return [
        run(each, seed, law(each * PER_STEP) + source.gauss(0, noise), **changes)
        for each in steps
        for seed in seeds
    ]


def write(root: Path, every: Iterable[dict[str, Any]]) -> Path:
    for record in every:
        records.write(root / record["id"] / "record.json", record)
    return root
