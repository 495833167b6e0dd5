"""What a search wants more or less of: quality on the validation split, or a figure of the record.

    quality                       the task's primary metric, on the validation split
    validation/<metric>           another metric of that split; min: or max: in front of it
    size.<name>, compute.<name>   of the record: size.checkpoint_bytes, compute.macs_effective
    speed.<workload>[.<figure>]   of the compressed model: p50 (ms), p95, throughput, …; speed_up

The test split chooses nothing: a search that looked at it would report the luckiest of its trials.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gossamer.records import runs
from gossamer.records.metrics import FILE

Direction = Literal["max", "min"]

QUALITY = "quality"
SPLIT = "validation/"
LEDGERS = ("size", "compute")
FIGURES = [
    f"{ledger}.{name}"
    for ledger in LEDGERS
    for name in runs.LEDGERS[ledger]
    if "dense" not in name.split("_")  # the twin's, which no trial changes
]
TIMED = (*runs.TIMED, "speed_up")
MORE = ("throughput", "speed_up")  # of which more is better
UNITS = {"p50": "ms", "p95": "ms", "throughput": "samples/s", "speed_up": "×"}


class NoFigure(Exception):
    """A finished run lacks what a search wants to know of it; the reason, on one line."""


@dataclass(frozen=True)
class Objective:
    """One figure and which way is better; `metric` is the name on the validation split, if any."""

    name: str
    direction: Direction | None = None  # None: the task says, see `told`
    metric: str | None = None

    @property
    def title(self) -> str:
        return f"{SPLIT}{self.metric}".replace("/", " ") if self.metric else self.name

    def told(self, primary: str, direction: Direction) -> Objective:
        """With what only the task knows: its primary metric and which way is better."""
        if self.name != QUALITY:
            return self
        return replace(self, metric=primary, direction=self.direction or direction)

    def value(self, record: Mapping[str, Any], run: Path) -> float:
        """The figure of the finished run in `run`. Raises NoFigure."""
        if self.metric is not None:
            found = validation(record, run, self.metric)
        elif self.name.startswith("speed."):
            found = _speed(record, *_workload(self.name))
        else:
            ledger, _, name = self.name.partition(".")
            found = record[ledger][name]
            if found is None:
                raise NoFigure(f"{self.name}: no layer was compressed")
        if found is None or not math.isfinite(found):
            raise NoFigure(f"{self.title}: the value is not finite")
        return float(found)


def read(text: str) -> Objective:
    """An objective as it is typed. Raises ValueError with the reason."""
    words = text.partition(":")
    given: Direction | None = None
    name = text.strip()
    if words[0].strip() in ("min", "max") and words[1]:
        given, name = ("min" if words[0].strip() == "min" else "max"), words[2].strip()
    if name == QUALITY:
        return Objective(name, given)
    if name.startswith(SPLIT) and len(name) > len(SPLIT):
        metric = name.removeprefix(SPLIT)
        if given is None and metric != "loss":
            raise ValueError(f"which way is better? write max:{name} or min:{name}")
        return Objective(name, given or "min", metric)
    if name.startswith("quality."):
        raise ValueError(
            "figures of the test split choose nothing; quality is the primary metric on the "
            f"validation split, {SPLIT}<metric> another one"
        )
    if name.startswith("speed.") and len(name) > len("speed."):
        return Objective(name, given or ("max" if _workload(name)[1] in MORE else "min"))
    if name in FIGURES:
        return Objective(name, given or "min")
    near = difflib.get_close_matches(name, [QUALITY, *FIGURES], 1)
    hint = f", did you mean {near[0]}?" if near else ""
    known = ", ".join([QUALITY, f"{SPLIT}<metric>", *FIGURES, "speed.<workload>"])
    raise ValueError(f"no such figure{hint}; there are {known}")


def unit(objective: Objective) -> str:
    """Of its values; "" for a metric."""
    if objective.name.startswith("speed."):
        figure = _workload(objective.name)[1]
        return UNITS.get(figure, "bytes")
    if objective.name.endswith("_bytes"):
        return "bytes"
    return "MACs" if objective.name.startswith("compute.") else ""


def validation(record: Mapping[str, Any], run: Path, metric: str) -> float | None:
    """The quality of a finished run on the validation split: after its last stage, or, where a
    dense model was only trained, the last that was logged. Raises NoFigure."""
    rows = record["stages"]
    if rows:
        found = rows[-1]["quality_after"]
        if metric not in found:
            raise NoFigure(f"{SPLIT}{metric}: no such metric; there are {', '.join(found)}")
        return found[metric]
    logged = dict(reported(run, metric))
    if not logged:
        raise NoFigure(
            f"{SPLIT}{metric}: the run has no validation figure, so nothing to choose by"
        )
    return logged[max(logged)]


def reported(run: Path, metric: str) -> Iterator[tuple[int, float]]:
    """(step, value) of a validation metric, as far as a run that may still work has logged it."""
    try:
        text = (run / FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.split("\n")[:-1]:  # the last one may be half written
        if f'"{SPLIT}{metric}"' not in line:
            continue
        try:
            logged = json.loads(line)
            yield int(logged["step"]), float(logged[f"{SPLIT}{metric}"])
        except (ValueError, KeyError, TypeError):
            continue  # damaged by a kill; the run itself rewrites it


def _workload(name: str) -> tuple[str, str]:
    """speed.batch 1.p95 -> (batch 1, p95)."""
    rest = name.removeprefix("speed.")
    workload, _, figure = rest.rpartition(".")
    return (workload, figure) if workload and figure in TIMED else (rest, "p50")


def _speed(record: Mapping[str, Any], workload: str, figure: str) -> float:
    """Of the entry that the run itself measured, which is the first of its workload (the
    honest one, where it was measured against several runtimes)."""
    entries = [entry for entry in record["speed"] if entry["workload"] == workload]
    if not entries:
        known = ", ".join(dict.fromkeys(entry["workload"] for entry in record["speed"]))
        raise NoFigure(f"speed.{workload}: no such workload; the record has {known or 'none'}")
    if "skipped" in entries[0]:
        raise NoFigure(f"speed.{workload}: not measured: {entries[0]['skipped']}")
    found = (
        entries[0]["speed_up"]["p50"] if figure == "speed_up" else entries[0]["compressed"][figure]
    )
    if found is None:
        raise NoFigure(f"speed.{workload}.{figure}: this device cannot tell")
    return found
