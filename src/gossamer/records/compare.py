"""Many records in one table: means over seeds with 95% intervals, and paired differences to the
dense twin.

What is averaged is one configuration (its digest) under one budget, over seeds. Everything else
stays in rows of its own, and what was kept apart, left out or damaged is said in a line. Records
are read as plain JSON: a query engine takes longer to import than thousands of records to read.
"""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gossamer.errors import DONE, FAILED, ResumeError
from gossamer.records.intervals import mean_interval
from gossamer.records.record import read
from gossamer.records.table import SETTING, methods, speed_labels

Record = dict[str, Any]
Format = Literal["table", "csv", "json", "markdown"]
UNTOLD = {"model", "dataset", "task", "compression", "seed", "rerun", "outputs", "name", "logger"}


@dataclass
class Found:
    """What lies below some paths."""

    records: dict[Path, Record] = field(default_factory=dict)  # finished runs
    unfinished: dict[Path, Record] = field(default_factory=dict)  # failed or preempted ones
    notes: list[str] = field(default_factory=list)  # what was left out, and why


def main(paths: Sequence[str], format: Format = "table") -> int:
    """Print the comparison of all records below `paths`; the exit status.

    CSV and JSON have stdout to themselves, and the notes go to stderr. Status 1 if there is no
    finished run."""
    from gossamer.records import printing

    found = find(paths)
    table, notes = compared(found)
    notes = [*unfinished_lines(found), *found.notes, *notes]
    if not table:
        where = " ".join(map(str, paths))
        notes.append(f"{where}: no finished run's record.json below; start one with `gossamer`")
    printing.show(table, notes, format)
    return DONE if table else FAILED


def rows(paths: Iterable[str]) -> list[dict[str, Any]]:
    """One dict per configuration and budget, as `gossamer compare --format json` prints them."""
    return compared(find(paths))[0]


def find(paths: Iterable[str | Path]) -> Found:
    """Read every record.json at or below `paths`. Damaged files and repeated runs become notes."""
    found = Found()
    newest: dict[tuple[str, str], Path] = {}
    for path in _files(paths):
        try:
            record = read(path)
        except ResumeError as error:
            found.notes.append(f"left out: {error}")
            continue
        if record["status"] != "done":
            found.unfinished[path] = record
            continue
        run = (record["id"], record["name"])
        other = newest.get(run)
        if other is not None:
            new = record["finished"] > found.records[other]["finished"]
            old, path = (other, path) if new else (path, other)
            found.records.pop(old, None)
            found.notes.append(f"left out: {old}: the same run as {path}, which is newer or equal")
            if not new:
                continue
        newest[run] = path
        found.records[path] = record
    return found


def _files(paths: Iterable[str | Path]) -> list[Path]:
    files: dict[Path, Path] = {}  # each file once, under the first name that leads to it
    for path in map(Path, paths):
        if path.is_file():
            files.setdefault(path.resolve(), path)
        for folder, inner, names in os.walk(path):
            inner[:] = sorted(name for name in inner if name not in ("export", "state", "wandb"))
            if "record.json" in names:
                file = Path(folder) / "record.json"
                files.setdefault(file.resolve(), file)
    return list(files.values())


def unfinished_lines(found: Found) -> list[str]:
    """A count of the runs that failed or were cut, then one line for each."""
    counts = Counter(record["status"] for record in found.unfinished.values())
    head = [", ".join(f"{n} {status}" for status, n in sorted(counts.items()))] if counts else []
    return head + [
        f"{record['status']}: {path}: {record['error']}"
        for path, record in found.unfinished.items()
    ]


def compared(found: Found) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows, sorted by task at hand and then by quality, and notes on what was not mixed."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in found.records.values():
        groups[_identity(record) + _terms(record)].append(record)
    notes = []
    for identity, several in _by_identity(groups).items():
        if several > 1:
            notes.append(
                f"not mixed: {_title(identity)} was run with {several} different budgets, starts "
                "or metrics; each has its own row"
            )
    labels = _labels(found.records.values())
    table = []
    for members in groups.values():
        row, told = _row(sorted(members, key=lambda record: record["seed"]), labels)
        table.append(row)
        notes += told
    _tell_apart(table, list(groups.values()))
    table.sort(key=_order)
    return table, notes


def _identity(record: Record) -> tuple[Any, ...]:
    choices = record["choices"]
    words = (choices["model"], choices["dataset"], choices["task"], "+".join(methods(record)))
    return (*words, record["config_digest"])


def _terms(record: Record) -> tuple[Any, ...]:
    """What must be equal, besides the configuration, before two runs may be averaged."""
    budget, quality = record["budget"], record["quality"]
    return (
        *(budget[name] for name in ("start", "base", "steps", "unspent", "pair_equal")),
        tuple(budget["twin"]),
        *(quality[name] for name in ("primary", "direction", "split")),
        record["compute"]["workload"],
    )


def _by_identity(groups: Iterable[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    return Counter(key[:5] for key in groups)


def _title(identity: Sequence[Any]) -> str:
    model, dataset, task, compression, digest = identity
    return f"{model} {dataset} {task} {compression or 'none'} ({digest[:8]})"


def _row(
    members: list[Record], labels: Mapping[tuple[Any, ...], str]
) -> tuple[dict[str, Any], list[str]]:
    first = members[0]
    title = _title(_identity(first))
    quality, budget = first["quality"], first["budget"]
    primary = quality["primary"]
    values = [record["quality"]["compressed"].get(primary) for record in members]
    twins = [record["quality"]["dense"].get(primary) for record in members]
    notes = [
        f"no mean: {title}: {primary} of seed {record['seed']} is not finite"
        for record, *pair in zip(members, values, twins, strict=True)
        if None in pair
    ]
    differences = [None if None in (a, b) else a - b for a, b in zip(values, twins, strict=True)]
    mean, interval = _mean(values)
    difference, spread = _mean(differences) if methods(first) else (None, None)
    row: dict[str, Any] = {
        "model": first["choices"]["model"],
        "dataset": first["choices"]["dataset"],
        "task": first["choices"]["task"],
        "compression": "+".join(methods(first)) or "none",
        "overrides": "",
        "config_digest": first["config_digest"],
        "seeds": [record["seed"] for record in members],
        "n": len(members),
        "steps": budget["total"],
        "pair_equal": budget["pair_equal"],
        "metric": primary,
        "direction": quality["direction"],
        "quality": mean,
        "quality_interval": interval,
        "difference": difference,
        "difference_interval": spread,
        "trainable_parameters": _typical(members, "size", "trainable_parameters"),
        "checkpoint_bytes": _typical(members, "size", "checkpoint_bytes"),
        "dense_checkpoint_bytes": _typical(members, "size", "dense_checkpoint_bytes"),
        "macs_dense": _typical(members, "compute", "macs_dense"),
        "macs_effective": _typical(members, "compute", "macs_effective"),
        "macs_nonzero": _typical(members, "compute", "macs_nonzero"),
    }
    speed_ups, told = _speed_ups(members, labels, title) if methods(first) else ({}, [])
    row["speed_up"] = speed_ups
    commits = {record["git"]["commit"] for record in members}
    if len(commits) > 1:
        notes.append(
            f"note: the seeds of {title} were run with {len(commits)} versions of the code"
        )
    return row, notes + told


def _mean(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    finite = [value for value in values if value is not None]
    return mean_interval(finite) if len(finite) == len(values) else (None, None)


def _typical(members: list[Record], ledger: str, name: str) -> float:
    total = sum(record[ledger][name] for record in members)
    return total // len(members) if total % len(members) == 0 else total / len(members)


def _speed_ups(
    members: list[Record], labels: Mapping[tuple[Any, ...], str], title: str
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Dense / compressed latency by label: the geometric mean over seeds, and the widest of their
    intervals, where every seed was measured on the same device, dtype, runtime and threads."""
    measured: dict[str, list[dict[str, float]]] = defaultdict(list)
    for record in members:
        for entry in _timed(record):
            measured[labels[_place(entry)]].append(entry["speed_up"])
    found, notes = {}, []
    for label, ratios in measured.items():
        if len(ratios) == len(members):
            logs = [math.log(ratio["p50"]) for ratio in ratios]
            found[label] = {
                "p50": math.exp(sum(logs) / len(logs)),
                "low": min(ratio["low"] for ratio in ratios),
                "high": max(ratio["high"] for ratio in ratios),
            }
        else:
            notes.append(
                f"not mixed: {title}: latency of {label} was measured for {len(ratios)} of "
                f"{len(members)} seeds; it is not averaged"
            )
    return found, notes


def _timed(record: Record) -> list[dict[str, Any]]:
    return [entry for entry in record["speed"] if "skipped" not in entry]


def _place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return (entry["workload"], *(entry[name] for name in SETTING))


def _labels(records: Iterable[Record]) -> dict[tuple[Any, ...], str]:
    """A column's name for every workload and setting that was timed in any record."""
    entries = {_place(entry): entry for record in records for entry in _timed(record)}
    return dict(zip(entries, speed_labels(list(entries.values())), strict=True))


def _tell_apart(table: list[dict[str, Any]], groups: list[list[Record]]) -> None:
    """Where choices alone do not tell rows apart: the overrides that differ, else the digest."""
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(table):
        words = ("model", "dataset", "task", "compression")
        alike[tuple(row[word] for word in words)].append(place)
    for places in alike.values():
        typed = [_overrides(groups[place]) for place in places]
        common = set.intersection(*map(set, typed))
        told = [" ".join(word for word in words if word not in common) for words in typed]
        repeated = Counter(told)
        for place, text in zip(places, told, strict=True):
            digest = table[place]["config_digest"][:8]
            again = len(places) > 1 and repeated[text] > 1
            table[place]["overrides"] = f"{text} ({digest})".strip() if again else text


def _overrides(members: list[Record]) -> list[str]:
    """What every seed's command had besides the choices."""
    typed = [
        [word for word in record["overrides"] if word.partition("=")[0].lstrip("+~") not in UNTOLD]
        for record in members
    ]
    return [word for word in typed[0] if all(word in other for other in typed)]


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    sign = -1 if row["direction"] == "max" else 1
    value = math.inf if row["quality"] is None else sign * row["quality"]
    task = (row["dataset"], row["model"], row["task"], row["metric"])
    return (*task, row["compression"] != "none", value)
