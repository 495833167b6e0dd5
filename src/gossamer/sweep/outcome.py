"""What a search found: the Pareto set, or the best trial, and the command that repeats each.

Kept as search.json in the sweep's folder, so that whoever looks at it later needs no Optuna.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.errors import ResumeError
from gossamer.records import record as records
from gossamer.records.record import write_text
from gossamer.records.table import metric, stdout
from gossamer.sweep.objectives import NoFigure, Objective, unit, validation

if TYPE_CHECKING:
    from optuna.study import Study

FILE = "search.json"
BEST = 5  # trials that are shown where there is one objective
NAMES = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "to go on"}


def told(
    study: Study, objectives: Sequence[Objective], primary: str, cwd: str, command: str
) -> dict[str, Any]:
    """The outcome as plain data. `command` is how a single run's command begins."""
    from gossamer.sweep import study as studies

    every = studies.trials(study)
    repeated = {each.user_attrs.get(studies.AGAIN) for each in every}
    states = Counter(each.state.name for each in every if each.number not in repeated)
    rows: list[dict[str, Any]] = []
    for each in studies.best(study):
        run, overrides = each.user_attrs["run"], each.user_attrs["overrides"]
        if any(row["run"] == run for row in rows):  # equal values that were asked for again
            continue
        names = {name for other in every for name in other.params}
        rows.append(
            {
                "trial": each.number,
                "values": each.values,
                "parameters": _parameters(overrides, names),
                **_quality(Path(cwd, run), primary),
                "run": run,
                "command": f"{command} {shlex.join(overrides)}",
            }
        )
    return {
        "objectives": [
            {
                "name": each.name,
                "title": each.title,
                "direction": each.direction,
                "unit": unit(each),
            }
            for each in objectives
        ],
        "primary": primary,
        "trials": {NAMES[name]: states[name] for name in NAMES if states[name]},
        "errors": {
            str(each.number): each.user_attrs.get("error", "")
            for each in every
            if each.state.name == "FAIL" and each.number not in repeated
        },
        "best": rows if len(objectives) > 1 else rows[:BEST],
    }


def _parameters(overrides: Sequence[str], names: set[str]) -> dict[str, str]:
    """What the search has varied, as it was typed for this run."""
    pairs = (each.partition("=") for each in overrides)
    return {key: value for key, _, value in pairs if key in names}


def _quality(run: Path, primary: str) -> dict[str, float | None]:
    """Both splits' primary metric; the test split's chose nothing."""
    try:
        record = records.read(run / "record.json")
        return {
            "validation": validation(record, run, primary),
            "test": record["quality"]["compressed"].get(primary),
        }
    except (NoFigure, ResumeError):  # the run was deleted since
        return {"validation": None, "test": None}


def write(folder: Path, found: Mapping[str, Any]) -> None:
    write_text(folder / FILE, json.dumps(found, indent=1) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """The outcome of the search in `folder`; None if there is none yet."""
    try:
        return json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def show(found: Mapping[str, Any]) -> None:
    """Print the best trials, how many there were, and the command that repeats each."""
    from rich.table import Table
    from rich.text import Text

    console = stdout(whole=True)
    aims, primary, best = found["objectives"], found["primary"], found["best"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    keys = list(dict.fromkeys(key for row in best for key in row["parameters"]))
    split = f"validation {primary}"
    chosen = any(aim["title"] == split for aim in aims)
    titles = [f"{aim['title']} ({aim['direction']})" for aim in aims]
    for name in ("trial", *keys):
        table.add_column(name)
    for name in (*titles, *([] if chosen else [split]), f"test {primary}"):
        table.add_column(name, justify="right")
    table.add_column("run")
    for row in best:
        own = [row["parameters"].get(key, "") for key in keys]
        pairs = zip(row["values"], aims, strict=True)
        values = [value(number, aim["unit"]) for number, aim in pairs]
        splits = [row["test"]] if chosen else [row["validation"], row["test"]]
        cells = [str(row["trial"]), *own, *values, *map(metric, splits), row["run"]]
        table.add_row(*map(Text, cells))
    counts = ", ".join(f"{count} {name}" for name, count in found["trials"].items())
    console.print(f"\n{'the Pareto set' if len(aims) > 1 else 'the best trials'} (of {counts})")
    for number, error in found["errors"].items():
        console.print(f"trial {number} failed: {error}", soft_wrap=True)
    if not best:
        return
    console.print(table)
    console.print(
        "trials are chosen by the validation split; the test split's figures chose nothing"
    )
    for row in best:
        console.print(f"trial {row['trial']}: {row['command']}", soft_wrap=True)


def value(number: float, unit: str) -> str:
    """A figure with its unit."""
    match unit:
        case "bytes":
            return f"{number / 1e6:,.3f} MB"
        case "":
            return (
                f"{number:.4f}" if number != int(number) or abs(number) < 10 else f"{number:,.0f}"
            )
        case "MACs":
            return f"{number / 1e6:,.2f} M"
    return f"{number:,.3f} {unit}"
