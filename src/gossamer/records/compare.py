"""Many records in one table: means over seeds with 95% intervals, paired differences to the dense
twin and to a baseline, the Pareto front.

What is averaged is one configuration (or one value of each key asked for) under one budget.
Everything else stays in rows of its own, and what was kept apart, left out, averaged over or
without a partner is said in a line. Most of the time goes into reading: records are skimmed by
msgspec, and DuckDB, which takes longer to import than a thousand records to read, is there for
conditions in SQL alone.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.errors import DONE, FAILED, ConfigError
from gossamer.records.figures import figure, missing, speed_ups
from gossamer.records.find import Found, find, skim, uncollected, unfinished_lines
from gossamer.records.grouping import Group, Note, gathered, groups, text
from gossamer.records.pairing import baseline, partners
from gossamer.records.pareto import mark
from gossamer.records.runs import Identity, Run, expect, figure_names, key_names, runs
from gossamer.records.schema import Skimmed

__all__ = ["Asked", "find", "main", "rows"]

Format = Literal["table", "csv", "json", "markdown"]
Row = dict[str, Any]
# in theory; only of runs in which a method chose what attention sees
ATTENTION = (
    "attention_macs",
    "attention_macs_dense",
    "attention_saved",
    "attention_saved_of_model",
    "attention_density",
    "attention_block_density",
)
UNTOLD = {"model", "dataset", "task", "compression", "seed", "rerun", "outputs", "name", "logger"}


@dataclass(frozen=True)
class Asked:
    """What a comparison is to show.

    Args:
        by: keys whose values make a row; (): a row is a configuration.
        metrics: figures to show instead of the primary metric and the ledgers.
        baseline: key=value words that select the runs that the others are compared with.
        pareto: two figures whose front is marked; (): none.
        across_models: a front is of all models of a data set, not of each.
        where: an SQL condition on runs; "": all.
        samples: also test row by row, where predictions were kept.
    """

    by: Sequence[str] = ()
    metrics: Sequence[str] = ()
    baseline: Sequence[str] = ()
    pareto: Sequence[str] = ()
    across_models: bool = False
    where: str = ""
    samples: bool = False


def main(paths: Sequence[str], format: Format = "table", asked: Asked = Asked()) -> int:
    """Print the comparison of all records below `paths`; the exit status.

    CSV and JSON have stdout to themselves, and the notes go to stderr. Status 1 if there is no
    finished run. Raises ConfigError for a key, a figure, a baseline or a condition that is none."""
    from gossamer.records import printing

    with uncollected():
        found = skim(paths)
        try:
            table, notes = compared(found, asked)
        except ConfigError as error:  # which names what is in the records
            raise ConfigError(printing.visible(str(error))) from error
        notes = [*unfinished_lines(found), *found.notes, *notes]
        if not found.records:
            where = " ".join(map(str, paths))
            notes.append(f"{where}: no finished run's record.json below; start one with `gossamer`")
        printing.show(table, notes, format, asked)
    return DONE if table else FAILED


def rows(paths: Iterable[str], asked: Asked = Asked()) -> list[Row]:
    """One dict per row, as `gossamer compare --format json` prints them."""
    return compared(skim(paths), asked)[0]


def compared(found: Found[Skimmed], asked: Asked) -> tuple[list[Row], list[str]]:
    """The rows, sorted by task at hand and then by quality, and notes on what was not mixed."""
    every = runs(found.records)
    if not every:
        return [], []
    keys, figures = key_names(every) if asked.by else (), figure_names(every)
    expect("--by", asked.by, keys, "key")
    expect("--metric", asked.metrics, figures, "figure")
    expect("--pareto", asked.pareto, figures, "figure")
    if asked.where:
        from gossamer.records.query import where

        every = where(asked.where, every)
        if not every:
            return [], [f"--where {asked.where}: true of none of {len(found.records)} runs"]
    against = baseline(asked.baseline, every, asked.where) if asked.baseline else None
    members, notes = groups(every, asked.by)
    pairs: Mapping[Run, Run] | None = None
    if against:
        pairs, told = partners(members, against)
        notes += told
    table = [_row(group, asked, pairs) for group in members]
    shown = ("quality", *asked.metrics, *asked.pareto)
    notes += gathered(note for group in members for name in shown for note in missing(group, name))
    partly: list[Note] = []
    for row, group in zip(table, members, strict=True):
        row["speed_up"], some = ({}, {}) if group.dense else speed_ups(group)
        partly += _partly(group, some)
    notes += gathered(partly)
    if against:
        for row, group in zip(table, members, strict=True):
            row["baseline"] = all(run in against.runs for run in group.runs)
    if asked.samples:
        from gossamer.records.samples import add

        notes += add(table, members, pairs, asked.metrics or ["quality"])
    if asked.pareto:
        notes += mark(table, members, asked.pareto, asked.across_models)
    if asked.by:
        _tell_data_apart(table, members)
    else:
        _tell_apart(table, members)
    table.sort(key=_order)
    return table, notes


def _row(group: Group, asked: Asked, pairs: Mapping[Run, Run] | None) -> Row:
    first = group.first.record
    primary = figure(group, "quality", pairs)
    value, interval = primary.pop("value"), primary.pop("interval")
    return {
        "model": group.choice("model"),
        "dataset": group.choice("dataset"),
        "task": group.choice("task"),
        "compression": group.choice("compression"),
        "by": group.by,
        "averages_over": group.over,
        "overrides": "",
        "config_digest": None if asked.by else first.config_digest,
        "seeds": group.seeds,
        "n": len(group.seeds),
        "runs": len(group.runs),
        "steps": first.budget.total,
        "pair_equal": first.budget.pair_equal,
        "dense": group.dense,
        "metric": first.quality.primary,
        "direction": primary.pop("direction"),
        "quality": value,
        "quality_interval": interval,
        **primary,
        "metrics": {
            name: figure(group, name, pairs)
            for name in dict.fromkeys([*asked.metrics, *asked.pareto])
        },
        "trainable_parameters": _typical(group, "size.trainable_parameters"),
        "checkpoint_bytes": _typical(group, "size.checkpoint_bytes"),
        "dense_checkpoint_bytes": _typical(group, "size.dense_checkpoint_bytes"),
        "macs_dense": _typical(group, "compute.macs_dense"),
        "macs_effective": _typical(group, "compute.macs_effective"),
        "macs_nonzero": _typical(group, "compute.macs_nonzero"),
        **{name: _of_attention(group, f"compute.{name}") for name in ATTENTION},
    }


def _typical(group: Group, name: str) -> float:
    total = sum(run.figure(name) or 0 for run in group.runs)
    return total // len(group.runs) if total % len(group.runs) == 0 else total / len(group.runs)


def _of_attention(group: Group, name: str) -> float | None:
    """None unless each run has it."""
    if any(run.figure(name) is None for run in group.runs):
        return None
    return _typical(group, name)


def _partly(group: Group, measured: Mapping[str, int]) -> list[Note]:
    """Notes on latencies that not every run of a row has."""
    return [
        (
            "not mixed: ",
            group.title,
            f": latency of {label} was measured for {count} of {len(group.runs)} runs; it is not "
            "averaged",
        )
        for label, count in measured.items()
    ]


def _tell_apart(table: list[Row], members: list[Group]) -> None:
    """Where choices alone do not tell rows apart: the overrides that differ, else the digest."""
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(table):
        words = ("model", "dataset", "task", "compression")
        alike[tuple(row[word] for word in words)].append(place)
    for places in alike.values():
        typed = [_overrides(members[place]) for place in places]
        common = set.intersection(*map(set, typed))
        told = [" ".join(word for word in words if word not in common) for words in typed]
        repeated = Counter(told)
        for place, word in zip(places, told, strict=True):
            digest = table[place]["config_digest"][:8]
            again = len(places) > 1 and repeated[word] > 1
            table[place]["overrides"] = f"{word} ({digest})".strip() if again else word


def _tell_data_apart(table: list[Row], members: list[Group]) -> None:
    """Where rows have the same keys on the same choice of a data set: what differs in the data."""
    alike: dict[tuple[Any, ...], list[tuple[Row, Identity]]] = defaultdict(list)
    for row, group in zip(table, members, strict=True):
        words = (*row["by"].values(), row["dataset"], row["task"])
        alike[words].append((row, group.first.data))
    for several in alike.values():
        common = set.intersection(*(set(data) for _, data in several))
        for row, data in several:
            row["overrides"] = " ".join(text(*pair) for pair in data if pair not in common)


def _overrides(group: Group) -> list[str]:
    """What every seed's command had besides the choices."""
    typed = [
        [w for w in run.record.overrides if w.partition("=")[0].lstrip("+~") not in UNTOLD]
        for run in group.runs
    ]
    return [word for word in typed[0] if all(word in other for other in typed)]


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    sign = -1 if row["direction"] == "max" else 1
    value = math.inf if row["quality"] is None else sign * row["quality"]
    task = (row["dataset"], row["model"], row["task"], row["metric"])
    return (*task, not row["dense"], value)
