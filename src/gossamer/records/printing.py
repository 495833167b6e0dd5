"""How a comparison is printed: a table, CSV, JSON or Markdown."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.records.table import amount, metric, relative, speed_up

Row = Mapping[str, Any]
WORDS = ("model", "dataset", "task", "compression", "overrides", "metric")
SHARED = ("model", "dataset", "task", "metric", "steps", "seeds")  # said once if equal in all rows


def show(rows: Sequence[Row], notes: Sequence[str], format: str) -> None:
    """Print rows to stdout. Notes come below them, or on stderr where a program reads stdout."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    if format == "json":
        print(json.dumps(list(rows), indent=1))
    elif format == "csv":
        _csv(rows)
    elif rows and format == "markdown":
        _markdown(rows)
    elif rows:
        _table(rows)
    stream = sys.stderr if format in ("csv", "json") else sys.stdout
    for line in notes:
        print(line, file=stream)


def flat(row: Row) -> dict[str, Any]:
    """A row without nesting: seeds as text, columns `speed_up <workload>` for each workload."""
    plain = {name: value for name, value in row.items() if name not in ("seeds", "speed_up")}
    speed = {
        f"speed_up {name}{end}": ratio[key]
        for name, ratio in row["speed_up"].items()
        for key, end in (("p50", ""), ("low", " low"), ("high", " high"))
    }
    return {**plain, "seeds": " ".join(map(str, row["seeds"])), **speed}


def _csv(rows: Sequence[Row]) -> None:
    plain = [flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in plain for name in row))
    if names:
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain)


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Titles of the columns, and the text of every cell. Columns that say nothing are left out."""
    workloads = list(dict.fromkeys(name for row in rows for name in row["speed_up"]))
    titles = ["model", "dataset", "task", "compression", "overrides", "seeds", "steps"]
    titles += ["metric", "quality", "vs dense", "trained", "MB", "MB change", "MACs change"]
    titles += ["non-zero MACs (theory)", *(f"latency {name}" for name in workloads)]
    lines = [_cells(row, workloads) for row in rows]
    kept = [place for place in range(len(titles)) if any(line[place] for line in lines)]
    return [titles[i] for i in kept], [[line[i] for i in kept] for line in lines]


def _cells(row: Row, workloads: Sequence[str]) -> list[str]:
    dense = row["compression"] == "none"
    theory = row["macs_nonzero"] != row["macs_effective"] and not dense
    pair = "" if row["pair_equal"] or dense else " (unequal pair)"
    return [
        *(row[name] for name in ("model", "dataset", "task", "compression", "overrides")),
        str(row["n"]),
        str(row["steps"]),
        row["metric"],
        _with_interval(row["quality"], row["quality_interval"]),
        "" if dense else _with_interval(row["difference"], row["difference_interval"], "+") + pair,
        amount(row["trainable_parameters"]),
        f"{row['checkpoint_bytes'] / 1e6:,.2f}",
        "" if dense else relative(row["dense_checkpoint_bytes"], row["checkpoint_bytes"]),
        "" if dense else relative(row["macs_dense"], row["macs_effective"]),
        relative(row["macs_dense"], row["macs_nonzero"]) if theory else "",
        *(speed_up(**row["speed_up"][n]) if n in row["speed_up"] else "" for n in workloads),
    ]


def _with_interval(value: float | None, interval: float | None, sign: str = "") -> str:
    text = metric(value) if value is None else f"{value:{sign}.4f}"
    return text if interval is None else f"{text} ± {interval:.4f}"


def _table(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    titles, lines = cells(rows)
    shared = [i for i, title in enumerate(titles) if title in SHARED and _same(lines, i)]
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:  # a file or a pipe has no width to fit in
        console.width = 10_000
    console.print(Text("  ".join(f"{titles[i]}: {lines[0][i]}" for i in shared)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    kept = [i for i in range(len(titles)) if i not in shared]
    for i in kept:
        table.add_column(titles[i], justify="left" if titles[i] in WORDS else "right")
    for line in lines:
        table.add_row(*(Text(line[i]) for i in kept))
    console.print(table)


def _same(lines: Sequence[Sequence[str]], place: int) -> bool:
    return len({line[place] for line in lines}) == 1


def _markdown(rows: Sequence[Row]) -> None:
    titles, lines = cells(rows)
    for line in (titles, ["---"] * len(titles), *lines):
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |")
