"""One figure of one row: its mean over the runs, and its paired differences, each with an interval.

value, interval           mean, and half the width of its 95% t interval
difference…               to each run's own dense twin; of test metrics only
baseline_difference…      to each run's partner of the baseline, where it has one
…_p                       two-sided p of the paired t test
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.records.grouping import Group, Note
from gossamer.records.intervals import mean_interval, paired_p
from gossamer.records.runs import Run


def figure(row: Group, name: str, partners: Mapping[Run, Run] | None) -> dict[str, Any]:
    """The figure `name` of a row; None where it has none, or a value was not finite. Without
    `partners` there is no baseline to compare with."""
    values = [run.figure(name) for run in row.runs]
    value, interval = _mean(values)
    twins = [run.twin_figure(name) for run in row.runs]
    pairs = list(zip(values, twins, strict=True)) if all(run.methods for run in row.runs) else []
    told: dict[str, Any] = {
        "direction": row.first.direction(name),
        "value": value,
        "interval": interval,
        **_paired("difference", pairs),
    }
    if partners is not None:
        mine = [run for run in row.runs if run in partners]
        pairs = [(run.figure(name), partners[run].figure(name)) for run in mine]
        seeds = [run.record.seed for run in mine]
        told |= {**_paired("baseline_difference", pairs), "baseline_seeds": seeds}
    return told


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


def _paired(name: str, pairs: Sequence[tuple[float | None, float | None]]) -> dict[str, Any]:
    differences = [None if a is None or b is None else a - b for a, b in pairs]
    mean, interval = _mean(differences)
    known = [each for each in differences if each is not None]
    return {
        name: mean,
        f"{name}_interval": interval,
        f"{name}_p": paired_p(known) if mean is not None else None,
    }


def _mean(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    finite = [value for value in values if value is not None]
    if not values or len(finite) < len(values):
        return None, None
    return mean_interval(finite)
