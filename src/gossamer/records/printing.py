"""How a comparison is printed: a table, CSV, JSON or Markdown.

Thousands of rows are printed in a blink because the table is laid out here: each column as wide as
its widest cell, nothing folded. What records say may come from anywhere: no control character of
theirs reaches a terminal, no formula a spreadsheet, no markup a page.
"""

import csv
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gossamer.records.compare import Asked
from gossamer.records.table import amount, metric, relative, speed_up

Row = Mapping[str, Any]
WORDS = ("model", "dataset", "task", "compression", "overrides", "metric")
SHARED = ("model", "dataset", "task", "metric", "steps", "seeds", "runs")  # said once if all equal
COUNTS = ("size.", "compute.", "budget.")
RATIOS = (
    "size.bits_per_weight",
    "compute.attention_saved",
    "compute.attention_saved_of_model",
    "compute.attention_density",
    "compute.attention_block_density",
)
NESTED = ("by", "averages_over", "seeds", "baseline_seeds", "metrics", "speed_up", "samples")
FORMULA = ("=", "+", "-", "@")  # how a cell begins that a spreadsheet would compute
MARKUP = re.compile(r"[\\`*_<>\[\]|]")
LEAST = 1e-15  # p below it are no more than rounding
DEFAULT = Asked()


def show(rows: Sequence[Row], notes: Sequence[str], format: str, asked: Asked = DEFAULT) -> None:
    """Print rows to stdout. Notes come below them, or on stderr where a program reads stdout."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    if format == "json":
        print(json.dumps(list(rows), indent=1))
    elif format == "csv":
        _csv(rows)
    elif rows and format == "markdown":
        _markdown(*cells(rows, asked))
    elif rows:
        _table(*cells(rows, asked), by=asked.by)
    stream = sys.stderr if format in ("csv", "json") else sys.stdout
    print("".join(f"{visible(line)}\n" for line in notes), end="", file=stream)


def visible(text: str) -> str:
    """With escapes for what a terminal would act on, a new line included."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def flat(row: Row) -> dict[str, Any]:
    """A row without nesting: a column for each key, seeds as text, figures asked for as `<name>`,
    `<name> interval`, …, and `speed_up <workload>` for each workload."""
    plain = {name: value for name, value in row.items() if name not in NESTED}
    figures = {
        f"{name} {part}".removesuffix(" value"): value
        for name, told in row["metrics"].items()
        for part, value in told.items()
        if part not in ("baseline_seeds", "baseline_runs")
    }
    speed = {
        f"speed_up {name}{end}": ratio[key]
        for name, ratio in row["speed_up"].items()
        for key, end in (("p50", ""), ("low", " low"), ("high", " high"))
    }
    samples = {f"{name} rows p": told["p"] for name, told in row.get("samples", {}).items()}
    seeds = {
        name: " ".join(map(str, row[name])) for name in ("seeds", "baseline_seeds") if name in row
    }
    return {**row["by"], **plain, **seeds, **figures, **samples, **speed}


def _csv(rows: Sequence[Row]) -> None:
    plain = [{inert(name): inert(v) for name, v in flat(row).items()} for row in rows]
    names = list(dict.fromkeys(name for row in plain for name in row))
    if names:
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain)


def inert(value: Any) -> Any:
    """A cell of CSV: text that a spreadsheet would compute begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if value.startswith(FORMULA) else visible(value)


def cells(rows: Sequence[Row], asked: Asked = DEFAULT) -> tuple[list[str], list[list[str]]]:
    """Titles of the columns, and the text of every cell. Columns that say nothing are left out."""
    columns = _columns(rows, asked)
    filled = [(visible(title), [visible(cell(row)) for row in rows]) for title, cell in columns]
    kept = [(title, column) for title, column in filled if any(column)]
    lines = zip(*(column for _, column in kept), strict=True)
    return [title for title, _ in kept], [list(line) for line in lines]


Column = tuple[str, Callable[[Row], str]]


def _columns(rows: Sequence[Row], asked: Asked) -> list[Column]:
    keys = [key for key in asked.by if key not in WORDS]
    words = [name for name in WORDS[:4] if not asked.by or name in (*asked.by, "dataset", "task")]
    columns: list[Column] = [(name, lambda row, name=name: row[name]) for name in words]  # type: ignore[misc]
    columns += [(key, lambda row, key=key: _plain(row["by"][key])) for key in keys]  # type: ignore[misc]
    averaged = any(row["runs"] > row["n"] for row in rows)
    columns += [
        ("overrides", lambda row: row["overrides"]),
        ("seeds", lambda row: str(row["n"])),
        ("runs", lambda row: str(row["runs"]) if averaged else ""),
        ("steps", lambda row: str(row["steps"])),
    ]
    if asked.pareto:
        columns.append(("front", lambda row: "*" if row["pareto"] else ""))
    if not asked.metrics:
        columns += [
            ("metric", lambda row: row["metric"]),
            ("quality", lambda row: _with_interval(row["quality"], row["quality_interval"])),
            ("vs dense", _vs_dense),
            ("vs baseline", lambda row: _vs_baseline("quality", row, row)),
        ]
    shown = [name for name in asked.pareto if asked.metrics or name != "quality"]
    for name in dict.fromkeys([*asked.metrics, *shown]):
        columns += _of_figure(name)
    columns.append(("p by row", _by_row))
    return columns if asked.metrics else columns + _ledgers(rows)


def _ledgers(rows: Sequence[Row]) -> list[Column]:
    def change(before: str, after: str) -> Callable[[Row], str]:
        return lambda row: "" if row["dense"] else relative(row[before], row[after])

    def theory(row: Row) -> str:
        same = row["macs_nonzero"] == row["macs_effective"]
        return "" if same or row["dense"] else relative(row["macs_dense"], row["macs_nonzero"])

    def less(saved: str) -> Callable[[Row], str]:
        return lambda row: "" if row[saved] is None else f"{-100 * row[saved]:+.1f}%"

    def share(kept: str) -> Callable[[Row], str]:
        return lambda row: "" if row[kept] is None else f"{100 * row[kept]:.1f}%"

    def latency(name: str) -> Callable[[Row], str]:
        return lambda row: speed_up(**row["speed_up"][name]) if name in row["speed_up"] else ""

    workloads = list(dict.fromkeys(name for row in rows for name in row["speed_up"]))
    return [
        ("trained", lambda row: amount(row["trainable_parameters"])),
        ("MB", lambda row: f"{row['checkpoint_bytes'] / 1e6:,.2f}"),
        ("MB change", change("dense_checkpoint_bytes", "checkpoint_bytes")),
        ("MACs change", change("macs_dense", "macs_effective")),
        ("non-zero MACs (theory)", theory),
        ("attention MACs (theory)", less("attention_saved")),
        ("of the model (theory)", less("attention_saved_of_model")),
        ("attention map kept", share("attention_density")),
        ("of its 128×128 tiles", share("attention_block_density")),
        *((f"latency {name}", latency(name)) for name in workloads),
    ]


def _of_figure(name: str) -> list[Column]:
    def told(row: Row, part: str, sign: str = "") -> str:
        figure = row["metrics"][name]
        interval = "interval" if part == "value" else f"{part}_interval"
        return number(name, figure[part], figure[interval], sign)

    return [
        (name, lambda row: told(row, "value")),
        (f"{name} vs dense", lambda row: told(row, "difference", "+")),
        (f"{name} vs baseline", lambda row: _vs_baseline(name, row, row["metrics"][name])),
    ]


def _vs_dense(row: Row) -> str:
    if row["dense"]:
        return ""
    pair = "" if row["pair_equal"] else " (unequal pair)"
    return _with_interval(row["difference"], row["difference_interval"], "+") + pair


def _vs_baseline(name: str, row: Row, told: Mapping[str, Any]) -> str:
    """The difference, its interval and p, and how many of the runs have a partner if not all."""
    if row.get("baseline"):
        return "baseline"
    value = told.get("baseline_difference")
    if value is None:
        return ""
    p, paired = told["baseline_difference_p"], told["baseline_runs"]
    return (
        number(name, value, told["baseline_difference_interval"], "+")
        + ("" if p is None else f", p {probability(p)}")
        + (f", {paired} of {row['runs']}" if paired < row["runs"] else "")
    )


def _by_row(row: Row) -> str:
    """The least favourable p of the seeds; several metrics by name."""
    told = row.get("samples", {})
    return ", ".join(
        f"{name} {probability(each['p'])}" if len(told) > 1 else probability(each["p"])
        for name, each in told.items()
    )


def probability(p: float) -> str:
    return f"{p:.2g}" if p >= LEAST else f"< {LEAST:.0e}"


def _with_interval(value: float | None, interval: float | None, sign: str = "") -> str:
    text = metric(value) if value is None else f"{value:{sign}.4f}"
    return text if interval is None else f"{text} ± {interval:.4f}"


def number(name: str, value: float | None, interval: float | None, sign: str = "") -> str:
    """A figure: counts with their SI prefix, all else with four places, as metrics have."""
    if value is None:
        return ""
    if name in RATIOS or not name.startswith(COUNTS):
        return _with_interval(value, interval, sign)
    sign = "-" if value < 0 else sign if value > 0 else ""
    return f"{sign}{amount(abs(value))}" + (f" ± {amount(interval)}" if interval else "")


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]], by: Sequence[str] = ()) -> None:
    shared = [i for i, title in enumerate(titles) if title in SHARED and _same(lines, i)]
    print("  ".join(f"{titles[i]}: {lines[0][i]}" for i in shared))
    kept = [i for i in range(len(titles)) if i not in shared]
    left = [titles[i] in (*WORDS, *by) for i in kept]
    body = [[line[i] for i in kept] for line in lines]
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    heads = _heads([titles[i] for i in kept], widths)
    widths = [max(width, *map(len, head)) for width, head in zip(widths, heads, strict=True)]
    tall = max(map(len, heads))
    above = [[*[""] * (tall - len(head)), *head] for head in heads]
    for line in [*zip(*above, strict=True), *body]:
        padded = (
            cell.ljust(width) if aside else cell.rjust(width)
            for cell, width, aside in zip(line, widths, left, strict=True)
        )
        print("  ".join(padded).rstrip())


def _heads(titles: Sequence[str], widths: Sequence[int]) -> list[list[str]]:
    """The lines of each title: one, or as many as a terminal needs that is narrower than all."""
    whole = sum(max(width, len(t)) + 2 for t, width in zip(titles, widths, strict=True))
    if not sys.stdout.isatty() or whole <= shutil.get_terminal_size().columns:
        return [[title] for title in titles]
    return [
        textwrap.wrap(title, max(width, max(map(len, title.split()))))
        for title, width in zip(titles, widths, strict=True)
    ]


def _same(lines: Sequence[Sequence[str]], place: int) -> bool:
    return len({line[place] for line in lines}) == 1


def _markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    for line in (titles, ["---"] * len(titles), *lines):
        print("| " + " | ".join(MARKUP.sub(r"\\\g<0>", cell) for cell in line) + " |")
