"""Are the intervals of `gossamer scaling-law` what they say? Simulated series with a known law.

    python benchmarks/scaling_law.py        # about four minutes on one core

For each law, number of budgets (4 or 6, doubling) and number of seeds: how often the 95% interval
of b, of the gap inside the budgets and of the gap far beyond them holds the truth, over 200 series
with independent noise. And how often a floor is preferred where there is none. Writes
benchmarks/results/scaling_law.json; the figures in docs/scaling-law.md are from there.
"""

import argparse
import json
from collections.abc import Callable
from datetime import date
from itertools import product

import numpy as np
from running import RESULTS

from gossamer.records.scaling.fits import _aicc
from gossamer.records.scaling.laws import FLOOR, POWER, Law, fit
from gossamer.records.scaling.resampling import Sample, bounds, kind, resampled

LEAST = 1e6  # tokens of the smallest budget
INSIDE, BEYOND = 3e6, 1e8
A, B, C = 20.0, 0.3, 0.1  # the truth; c is 0 for the law without a floor
NOISE = 0.005
RESAMPLES = 500


def truth(law: Law) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: A * np.asarray(t) ** -B + (C if law is FLOOR else 0.0)


def drawn(law: Law, budgets: int, seeds: int, draw: np.random.Generator) -> Sample:
    t = LEAST * 2.0 ** np.arange(budgets)
    gaps = [gap + draw.normal(0, NOISE, seeds) for gap in truth(law)(t)]
    return Sample(t, gaps, [tuple(range(seeds))] * budgets)


def coverage(law: Law, budgets: int, seeds: int, series: int) -> dict[str, object]:
    """Shares of the intervals that hold the truth."""
    draw = np.random.default_rng(budgets * 100 + seeds)
    points = np.array([INSIDE, BEYOND])
    expected = [B, *truth(law)(points)]
    held, resampling = np.zeros(3), ""
    for _ in range(series):
        sample = drawn(law, budgets, seeds, draw)
        made = resampled(sample, law, RESAMPLES)
        assert made is not None
        curves = fit(law, sample.budgets, made[0], sample.weights)
        values = np.column_stack([curves.b, curves.at(points)])
        low, high = bounds(values, made[1])
        held += (low <= expected) & (expected <= high)
        resampling = kind(sample)
    shares = dict(zip(("b", "inside", "beyond"), (held / series).round(3).tolist(), strict=True))
    return {"law": law.name, "budgets": budgets, "seeds": seeds, "drawn": resampling, **shares}


def false_floors(budgets: int, seeds: int, series: int) -> int:
    """Series of a law without a floor whose AICc is better with one."""
    draw = np.random.default_rng(7)
    count = 0
    for _ in range(series):
        sample = drawn(POWER, budgets, seeds, draw)
        every = np.concatenate(sample.gaps)
        scores = []
        for law in (POWER, FLOOR):
            values = fit(law, sample.budgets, sample.means, sample.weights).at(sample.budgets)[0]
            missed = sum(
                float(((g - v) ** 2).sum()) for g, v in zip(sample.gaps, values, strict=True)
            )
            scores.append(_aicc(missed, len(every), len(law.parameters), every))
        count += scores[1] < scores[0] - 2
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=200)
    args = parser.parse_args()
    rows = []
    for law, budgets, seeds in product((POWER, FLOOR), (4, 6), (1, 2, 3, 5, 6)):
        if budgets * seeds - len(law.parameters) < 1:
            continue
        rows.append(coverage(law, budgets, seeds, args.series))
        print(rows[-1], flush=True)
    told = {
        "series": args.series,
        "resamples": RESAMPLES,
        "noise": NOISE,
        "coverage": rows,
        "false_floors": {"of": 150, "count": false_floors(6, 3, 150), "budgets": 6, "seeds": 3},
        "date": date.today().isoformat(),
    }
    print(told["false_floors"])
    (RESULTS / "scaling_law.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
