"""Tests row by row: is a run's difference to its partner larger than the choice of test rows?

One test for each seed, against the run of the baseline or else the run's own dense twin: McNemar's
exact one for accuracy, a bootstrap over rows for every other metric. Only where both kept their
predictions, of the same rows. numpy is imported here, and so only when asked for.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.errors import ResumeError
from gossamer.records import predictions, rowwise
from gossamer.records.grouping import Group, Note, gathered
from gossamer.records.intervals import mcnemar
from gossamer.records.runs import Run

TOLERANCE = 1e-4  # of a metric recomputed in another precision
KEPT = 32  # files in memory: a row's own, and the baseline's, which the next row needs too

Rows = tuple[dict[str, Any], str]
Read = Callable[[Path], Rows]


def add(
    table: Sequence[dict[str, Any]],
    groups: Sequence[Group],
    partners: Mapping[Run, Run] | None,
    names: Sequence[str],
) -> list[str]:
    """Set "samples" in every row: a test for each seed and test metric in `names`, and "p", the
    least favourable of a metric's. Returns notes on what could not be tested."""
    notes: list[Note] = []
    read = lru_cache(maxsize=KEPT)(predictions.read)
    for row, group in zip(table, groups, strict=True):
        row["samples"] = {}
        for name in dict.fromkeys(group.first.metric(name) for name in names):
            if name not in group.first.record.quality.compressed:
                continue
            seeds = []
            for run in group.runs:
                if partners is None and not run.methods:
                    continue  # its own twin
                if partners is not None and run not in partners:
                    continue  # said where partners were looked for, or the baseline itself
                try:
                    seeds.append(_test(run, partners[run] if partners else None, name, read))
                except ResumeError as error:
                    seed = f", seed {run.record.seed}: {error}"
                    notes.append(("no test by row: ", group.title, seed))
            if seeds:
                worst = max(seed["p"] for seed in seeds)
                row["samples"][name] = {"p": worst, "seeds": seeds}
    return gathered(notes)


def _test(run: Run, partner: Run | None, name: str, read: Read) -> dict[str, Any]:
    """One seed's test, mine - other. Raises ResumeError if the two cannot be compared."""
    mine, data = _read(run, "compressed", "the run", name, read)
    side = "compressed" if partner else "dense"
    other, theirs = _read(partner or run, side, "what it is compared with", name, read)
    if data != theirs or not np.array_equal(predictions.truth(mine), predictions.truth(other)):
        raise ResumeError("the predictions are of other test rows than those to compare with")
    told = {"seed": run.record.seed, "rows": len(mine["loss"])}
    if name == "accuracy":
        right, rights = mine["prediction"] == mine["label"], other["prediction"] == other["label"]
        better, worse = int((right & ~rights).sum()), int((~right & rights).sum())
        return {
            **told,
            "test": "McNemar",
            "difference": (better - worse) / told["rows"],
            "better": better,
            "worse": worse,
            "p": mcnemar(better, worse),
        }
    whole = np.ones((1, told["rows"]))
    difference = rowwise.of(name, mine, whole) - rowwise.of(name, other, whole)
    drawn = rowwise.bootstrap(name, mine, other, _seed(run, name))
    low, high = np.quantile(drawn, [0.025, 0.975])
    rarer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return {
        **told,
        "test": "bootstrap",
        "difference": float(difference[0]),
        "low": float(low),
        "high": float(high),
        "p": min(1.0, 2 * (int(rarer) + 1) / (len(drawn) + 1)),
    }


def _read(owner: Run, side: str, who: str, name: str, read: Read) -> Rows:
    """The rows and their data's fingerprint, if they are what the record's figure was made of."""
    file = getattr(owner.record.quality.predictions, side)
    if file is None:
        raise ResumeError(f"{who} kept no predictions")
    path = owner.path.parent / file
    rows, data = read(path)
    if name not in rowwise.known(rows):
        raise ResumeError(f"{name} cannot be computed from {', '.join(rows)} of each row")
    figure = getattr(owner.record.quality, side).get(name)
    again = float(rowwise.of(name, rows, np.ones((1, len(rows["loss"]))))[0])
    if figure is None or abs(again - figure) > TOLERANCE * max(1.0, abs(figure)):
        raise ResumeError(f"{path}: not those of the record: {name} is {again:.4f}, not {figure}")
    return rows, data


def _seed(run: Run, name: str) -> int:
    """The same draw for the same run and metric, whoever asks."""
    return int.from_bytes(hashlib.sha256(f"{run.record.id} {name}".encode()).digest()[:4], "big")
