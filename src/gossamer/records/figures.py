"""One figure of one row: its mean over the runs, and its paired differences, each with an interval.

value, interval           mean, and half the width of its 95% t interval
difference…               to each run's own dense twin; of test metrics only
baseline_difference…      to each run's partner of the baseline, where it has one
…_p                       two-sided p of the paired t test

A seed is one value, whatever the row averages over: the mean of its runs. Two runs of one seed
share its draws, and often their partner; as two values they would make an interval too narrow.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.records.grouping import Group, Note
from gossamer.records.intervals import mean_interval, paired_p
from gossamer.records.runs import Run
from gossamer.records.table import honest

SIDES = ("dense", "compressed")


def figure(row: Group, name: str, partners: Mapping[Run, Run] | None) -> dict[str, Any]:
    """The figure `name` of a row; None where it has none, or a value was not finite. Without
    `partners` there is no baseline to compare with."""
    value, interval = _mean([(run, run.figure(name)) for run in row.runs])
    compressed = all(run.methods for run in row.runs)
    pairs = [(run, run.figure(name), run.twin_figure(name)) for run in row.runs if compressed]
    told: dict[str, Any] = {
        "direction": row.first.direction(name),
        "value": value,
        "interval": interval,
        **_paired("difference", pairs),
    }
    if partners is not None:
        mine = [run for run in row.runs if run in partners]
        pairs = [(run, run.figure(name), partners[run].figure(name)) for run in mine]
        told |= _paired("baseline_difference", pairs)
        told["baseline_seeds"] = list(dict.fromkeys(run.record.seed for run in mine))
        told["baseline_runs"] = len(mine)
    return told


def speed_ups(row: Group) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Dense / compressed latency by label of workload and setting, where every run of the row was
    measured: the geometric mean, and the widest of their intervals. And how many runs were measured
    where not every one was."""
    measured = _entries(row)
    pooled = {
        label: _pooled([entry["speed_up"] for entry in each])
        for label, each in measured.items()
        if len(each) == len(row.runs)
    }
    return pooled, {label: len(each) for label, each in measured.items() if label not in pooled}


def honest_speed_ups(row: Group) -> dict[str, dict[str, float]]:
    """Of `speed_ups`, those against the fastest runtime of the dense model, of the fastest of the
    compressed one, by their means over the runs."""
    means = [
        {
            **each[0],
            "label": label,
            **{side: {"p50": statistics.fmean(e[side]["p50"] for e in each)} for side in SIDES},
        }
        for label, each in _entries(row).items()
        if len(each) == len(row.runs)
    ]
    pooled, _ = speed_ups(row)
    return {entry["label"]: pooled[entry["label"]] for entry in honest(means)}


def _entries(row: Group) -> dict[str, list[Mapping[str, Any]]]:
    measured: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for run in row.runs:
        for label, entry in run.speed.items():
            measured[label].append(entry)
    return measured


def _pooled(ups: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        "p50": _geometric([each["p50"] for each in ups]),
        "low": min(each["low"] for each in ups),
        "high": max(each["high"] for each in ups),
    }


def _geometric(values: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def missing(row: Group, name: str) -> list[Note]:
    """A note on each run that keeps this row from having a mean."""
    lacking = [run for run in row.runs if run.figure(name) is None]
    if len(lacking) == len(row.runs) and name not in row.first.record.quality.compressed:
        return []  # another data set's metric, or nothing measured: an empty cell says it
    return [
        ("no mean: ", row.title, f": {run.metric(name)} of seed {run.record.seed} is not finite")
        if run.metric(name) in run.record.quality.compressed
        else ("no mean: ", row.title, f": seed {run.record.seed} has no {name}")
        for run in lacking
    ]


def _paired(
    name: str, pairs: Sequence[tuple[Run, float | None, float | None]]
) -> dict[str, float | None]:
    known = [(run, None if a is None or b is None else a - b) for run, a, b in pairs]
    mean, interval = _mean(known)
    return {
        name: mean,
        f"{name}_interval": interval,
        f"{name}_p": None if mean is None else paired_p(_of_seeds(known)),
    }


Values = Sequence[tuple[Run, float | None]]


def _mean(values: Values) -> tuple[float | None, float | None]:
    if not values or any(value is None for _, value in values):
        return None, None
    return mean_interval(_of_seeds(values))


def _of_seeds(values: Values) -> list[float]:
    """The mean of each seed's values, which are all there."""
    found: dict[int, list[float]] = defaultdict(list)
    for run, value in values:
        found[run.record.seed].append(value)  # type: ignore[arg-type]
    return [math.fsum(each) / len(each) for each in found.values()]
