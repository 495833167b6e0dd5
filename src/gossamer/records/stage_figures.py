"""What a stage found out, as people read it: "recall 0", "recall 1", … are one series over layers.

A name that ends in a number, after a space, is a place in a series if another place of it is
there; every other name is a figure of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Values = Mapping[str, float | None]
Series = dict[int, float | None]  # layer -> value
PLACE = re.compile(r"(.+) (\d{1,6})")


def split(figures: Values) -> tuple[dict[str, float | None], dict[str, Series]]:
    """(figures of their own, series by name), each in the order in which they were told, a series'
    layers ascending."""
    places = {name: found for name in figures if (found := PLACE.fullmatch(name))}
    series: dict[str, Series] = {}
    for name, found in places.items():
        series.setdefault(found[1], {})[int(found[2])] = figures[name]
    series = {name: dict(sorted(each.items())) for name, each in series.items() if len(each) > 1}
    alone = {
        name: value
        for name, value in figures.items()
        if name not in places or places[name][1] not in series
    }
    return alone, series


def told(stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each one-shot stage that found something out: a series by its mean and its ends.
    What a trained stage logged is in its curves."""
    for stage in stages:
        if stage["steps"] or not stage.get("figures"):
            continue
        alone, series = split(stage["figures"])
        words = [f"{name} {_number(value)}" for name, value in alone.items()]
        words += [f"{name} {_summary(each)}" for name, each in series.items()]
        yield f"{stage['name']}: {', '.join(words)}"


def logged(stages: Sequence[Mapping[str, Any]]) -> set[str]:
    """The names under which the figures of one-shot stages stand in metrics.jsonl: a point each,
    which is no curve."""
    return {
        f"{stage['name'].partition('.')[2]}/{name}"
        for stage in stages
        if not stage["steps"]
        for name in stage.get("figures") or ()
    }


def _summary(series: Series) -> str:
    values = [value for value in series.values() if value is not None]
    if len(values) < len(series):
        return f"not finite in {len(series) - len(values)} of {len(series)} layers"
    low, high = _number(min(values)), _number(max(values))
    mean = _number(math.fsum(values) / len(values))
    return f"{mean} ({low} to {high} over {len(values)} layers)"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
