"""Which points of a plane are on its Pareto front."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from gossamer.records.grouping import Group, Note, gathered
from gossamer.records.runs import Identity, apart, one_of

Plane = tuple[str, Identity]


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
    data, task and model (`across`: of all models); None if one of them is missing. Returns notes on
    these, on fronts that were kept apart, and on budgets that share one."""
    planes: dict[Plane, list[int]] = defaultdict(list)
    lacking: list[Note] = []
    for place, (row, group) in enumerate(zip(table, groups, strict=True)):
        row["pareto"] = None
        if any(row["metrics"][name]["value"] is None for name in names):
            told = f": it has no {' or no '.join(names)}"
            lacking.append(("not on a front: ", group.title, told))
        else:
            planes[_plane(group, names, across)].append(place)
    alike: dict[str, list[Identity]] = defaultdict(list)
    mixed: list[Note] = []
    for (title, identity), places in planes.items():
        points = [_point(table[place]["metrics"], names) for place in places]
        for place, member in zip(places, front(points), strict=True):
            table[place]["pareto"] = member
        alike[title].append(identity)
        budgets = [groups[place].first.record.budget for place in places]
        several = dict.fromkeys(f"{each.total} steps ({each.start})" for each in budgets)
        if len(several) > 1:
            mixed.append(("note: the front of ", title, f" mixes budgets: {one_of(several)}"))
    fronts: list[Note] = [
        ("not mixed: ", title, f" has {len(several)} fronts, of {apart(several)}")
        for title, several in alike.items()
        if len(several) > 1
    ]
    return [*gathered(lacking), *gathered(fronts, "fronts"), *gathered(mixed, "fronts")]


def _plane(group: Group, names: Sequence[str], across: bool) -> Plane:
    """Whose front a row may be on: its choices and metric in words, and what must be equal too."""
    record = group.first.record
    models = sorted({run.record.choices.model for run in group.runs})
    title = " ".join(
        [*([] if across else [", ".join(models)]), record.choices.dataset, record.choices.task]
    )
    identity: Identity = (("metric", record.quality.primary), *group.first.data)
    if any(name.startswith("compute.") for name in names):
        identity += (("compute.workload", record.compute.workload),)
    if across:
        return title, identity
    runs = group.runs if group.by else [group.first]  # of one configuration
    several = sorted({run.model for run in runs}, key=str)
    return title, identity + (several[0] if len(several) == 1 else (("model", apart(several)),))


def _point(figures: Mapping[str, Any], names: Sequence[str]) -> tuple[float, float]:
    x, y = (
        figures[name]["value"] * (-1 if figures[name]["direction"] == "max" else 1)
        for name in names
    )
    return x, y
