"""Which points of a plane are on its Pareto front."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from gossamer.records.grouping import Group, Note, gathered


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (x, y), less being better in both: is no other point at least as good in both and
    better in one? Equal points are on the front together."""
    best = float("inf")  # the least y of all points with a smaller x
    members: set[tuple[float, float]] = set()
    for _, group in groupby(sorted(points), key=lambda point: point[0]):
        first = next(group)  # the least y of this x
        if first[1] < best:
            members.add(first)
            best = first[1]
    return [point in members for point in points]


def mark(
    table: Sequence[dict[str, Any]], groups: Sequence[Group], names: Sequence[str], across: bool
) -> list[str]:
    """Set "pareto" in every row: on the front of the two figures `names`, among the rows of its
    data set, task and model (`across`: of all models); None if one of them is missing. Returns
    notes on these."""
    planes: dict[tuple[str, ...], list[int]] = defaultdict(list)
    told: list[Note] = []
    for place, (row, group) in enumerate(zip(table, groups, strict=True)):
        row["pareto"] = None
        if any(row["metrics"][name]["value"] is None for name in names):
            told.append(("not on a front: ", group.title, f": it has no {' or no '.join(names)}"))
            continue
        words = ("dataset", "task", "metric") if across else ("dataset", "task", "metric", "model")
        planes[tuple(row[word] for word in words)].append(place)
    for places in planes.values():
        points = [_point(table[place]["metrics"], names) for place in places]
        for place, member in zip(places, front(points), strict=True):
            table[place]["pareto"] = member
    return gathered(told)


def _point(figures: Mapping[str, Any], names: Sequence[str]) -> tuple[float, float]:
    x, y = (
        figures[name]["value"] * (-1 if figures[name]["direction"] == "max" else 1)
        for name in names
    )
    return x, y
