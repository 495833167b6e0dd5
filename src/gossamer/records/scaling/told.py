"""What the fits are as plain data (JSON, CSV and the page), and how a terminal shows them."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.records.grouping import text
from gossamer.records.intervals import mean_interval
from gossamer.records.printing import inert, visible
from gossamer.records.scaling.fits import LEVEL, Estimate, Fit, Fitted
from gossamer.records.scaling.resampling import RESAMPLES
from gossamer.records.scaling.series import Asked, budget
from gossamer.records.table import amount

Told = dict[str, Any]
DRAWN = {
    "seed": "whole seeds are drawn, each with all its budgets",
    "budget": "runs are drawn within each budget, as if independent between them",
    "residual": "normal noise as wide as what the law leaves over; budgets have too few runs",
}


def rows(every: Sequence[Fitted], asked: Asked) -> list[Told]:
    """One object for each series."""
    return [_row(one, asked) for one in every]


def _row(one: Fitted, asked: Asked) -> Told:
    series, record = one.series, one.series.first.record
    budgets = series.budgets
    return {
        "title": series.title,
        "model": record.choices.model,
        "dataset": record.choices.dataset,
        "task": record.choices.task,
        "compression": ", ".join(dict.fromkeys("+".join(r.methods) for r in series.runs)),
        "by": series.by,
        "averages_over": series.over,
        "apart": series.apart,
        "metric": series.metric,
        "unit": unit(one, asked),
        "direction": series.direction,
        "gap": "compressed - dense" if series.direction == "min" else "dense - compressed",
        "twin": series.twins,
        "start": record.budget.start,
        "base_steps": record.budget.base,
        "x": asked.x,
        "runs": len(series.runs),
        "seeds": series.seeds,
        "not_positive": sum(point.gap <= 0 for point in series.points),
        "points": [
            {"x": point.x, "seed": point.seed, "gap": point.gap, "runs": point.runs}
            for point in series.points
        ],
        "budgets": [
            {"x": x, "n": len(at), **dict(zip(("gap", "interval"), mean_interval(at), strict=True))}
            for x, at in ((x, [point.gap for point in at]) for x, at in budgets.items())
        ],
        "level": LEVEL,
        "resamples": RESAMPLES,
        "drawn": one.drawn,
        "laws": [_law(fit, asked.at, list(budgets)) for fit in one.fits],
        "not_fitted": [{"law": name, "why": why} for name, why in one.left.items()],
        "preferred": one.preferred,
        "verdict": one.verdict,
    }


def unit(one: Fitted, asked: Asked) -> str:
    tokens = all(budget(run, "tokens") is not None for run in one.series.runs)
    return "nats per token" if one.series.metric == "loss" and tokens else ""


def _law(fit: Fit, at: Sequence[float], budgets: Sequence[int]) -> Told:
    return {
        "law": fit.law.name,
        "formula": fit.law.formula,
        "parameters": {name: three(value) for name, value in fit.parameters.items()},
        "r2": fit.r2,
        "aicc": fit.aicc,
        "left_out_error": fit.left_out,
        "at": [
            {"x": x, **three(gap), "extrapolated": not budgets[0] <= x <= budgets[-1]}
            for x, gap in zip(at, fit.at(at) if at else [], strict=True)
        ],
    }


def three(value: Estimate) -> dict[str, float | None]:
    return {"value": value.value, "low": value.low, "high": value.high}


def show(told: Sequence[Told], notes: Sequence[str], format: str) -> None:
    """Print series to stdout; notes below them, or on stderr where a program reads stdout."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    if format == "json":
        print(json.dumps(list(told), indent=1))
    elif format == "csv":
        _csv(told)
    else:
        print("\n\n".join("\n".join(map(visible, lines(one))) for one in told))
    stream = sys.stderr if format in ("csv", "json") else sys.stdout
    below = "\n" if told and notes and format == "table" else ""
    print(below + "".join(f"{visible(line)}\n" for line in notes), end="", file=stream)


def lines(one: Told) -> list[str]:
    """A series as text: what it is, its budgets, its laws, and what they say."""
    what = one["metric"] + (f" ({one['unit']})" if one["unit"] else "")
    told = [
        one["title"],
        f"gap: {one['gap']} in {what}, to {', or '.join(one['twin'])}",
        "",
        *_aligned(
            [(one["x"], "seeds", "gap")]
            + [
                (amount(b["x"]), str(b["n"]), _half(b["gap"], b["interval"]))
                for b in one["budgets"]
            ]
        ),
    ]
    if one["laws"]:
        names = [name for name in "abc" if any(name in law["parameters"] for law in one["laws"])]
        heads = ("law", "gap ≈", *names, "R²", "AICc", "left-out error", *_heads(one))
        body = [_cells(law, names, one["preferred"]) for law in one["laws"]]
        told += ["", *_aligned([heads, *body], left=2)]
    told.append("")
    told += [f"not fitted: {each['law']}: {each['why']}" for each in one["not_fitted"]]
    if one["laws"]:
        told += one["verdict"]
        told.append(f"95% intervals: {one['resamples']} resamples; {DRAWN[one['drawn']]}")
        if count := one["not_positive"]:
            told.append(
                f"{count} of {len(one['points'])} gaps are not above 0 (as good as the twin, or "
                "better); they count, as the fit is of gaps and not of their logarithms"
            )
        if any(at["extrapolated"] for law in one["laws"] for at in law["at"]):
            told.append(
                "* extrapolated: outside the budgets that were run an interval holds only if the "
                "law does; compare the laws"
            )
    return told


def _heads(one: Told) -> list[str]:
    first = one["laws"][0]["at"]
    return [f"at {amount(at['x'])}{'*' * at['extrapolated']}" for at in first]


def _cells(law: Told, names: Sequence[str], preferred: str | None) -> tuple[str, ...]:
    numbers = [law["parameters"].get(name) for name in names]
    return (
        law["law"] + " ←" * (law["law"] == preferred),
        law["formula"],
        *("" if number is None else _ranged(number) for number in numbers),
        *(
            "" if law[name] is None else f"{law[name]:.{n}f}"
            for name, n in (("r2", 4), ("aicc", 1))
        ),
        _short(law["left_out_error"]),
        *map(_ranged, law["at"]),
    )


def _ranged(number: Mapping[str, float | None]) -> str:
    value, low, high = (_short(number[name]) for name in ("value", "low", "high"))
    return value if number["low"] is None and number["high"] is None else f"{value} [{low}, {high}]"


def _short(value: float | None) -> str:
    return "∞" if value is None else f"{value:.4g}"


def _half(mean: float, interval: float | None) -> str:
    return f"{mean:.4f}" + (f" ± {interval:.4f}" if interval is not None else "")


def _aligned(table: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def _csv(told: Sequence[Told]) -> None:
    """A row for each law of each series."""
    table = [_flat(one, law) for one in told for law in one["laws"]]
    if not table:
        return
    names = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(sys.stdout, [inert(name) for name in names], lineterminator="\n")
    writer.writeheader()
    writer.writerows({inert(name): inert(value) for name, value in row.items()} for row in table)


def _flat(one: Told, law: Told) -> Told:
    kept = ("title", "model", "dataset", "task", "compression", "metric", "unit", "direction")
    figures: Told = {}
    numbers = [(name, law["parameters"].get(name, {})) for name in "abc"]
    for name, number in [*numbers, *((f"at {at['x']:g}", at) for at in law["at"])]:
        figures |= {name: number.get("value")}
        figures |= {f"{name} {end}": number.get(end) for end in ("low", "high")}
        if "extrapolated" in number:
            figures[f"{name} extrapolated"] = number["extrapolated"]
    return {
        **{name: one[name] for name in kept},
        "keys": " ".join(text(*pair) for pair in {**one["by"], **one["apart"]}.items()),
        "twin": ", or ".join(one["twin"]),
        "x": one["x"],
        "runs": one["runs"],
        "seeds": " ".join(map(str, one["seeds"])),
        "budgets": " ".join(str(each["x"]) for each in one["budgets"]),
        "law": law["law"],
        "formula": law["formula"],
        **{name: law[name] for name in ("r2", "aicc", "left_out_error")},
        "preferred": law["law"] == one["preferred"],
        **figures,
    }
