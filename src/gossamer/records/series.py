"""Figures of a stage that are one for each layer: "recall 0", "recall 1", … are a series over
layers."""

import re
from collections import defaultdict
from collections.abc import Mapping

ONE = re.compile(r"(.*\S) (\d+)")
Figures = Mapping[str, float | None]
Series = dict[str, list[float | None]]  # kind -> a value for each layer, None where it has none


def layer_of(name: str) -> tuple[str, int] | None:
    """("recall", 3) of "recall 3"; None for a name that does not end in a number."""
    found = ONE.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def by_layer(figures: Figures) -> tuple[dict[str, float | None], Series]:
    """The figures that are by themselves, and the series. A number without a 0 among its kind
    counts no layers ("top 5")."""
    kinds: dict[str, dict[int, float | None]] = defaultdict(dict)
    for name, value in figures.items():
        if found := layer_of(name):
            kinds[found[0]][found[1]] = value
    series = {
        kind: [values.get(layer) for layer in range(max(values) + 1)]
        for kind, values in kinds.items()
        if 0 in values
    }
    alone = {
        name: value
        for name, value in figures.items()
        if not ((found := layer_of(name)) and found[0] in series)
    }
    return alone, series


def means(figures: Figures) -> dict[str, float | None]:
    """Each figure that is by itself, and the mean over the layers of each series, under its kind's
    name; None if one of its values is not finite."""
    alone, series = by_layer(figures)
    found = dict(alone)
    for kind, values in series.items():
        known = [value for value in values if value is not None]
        name = f"{kind}, mean of layers"
        found[name] = sum(known) / len(known) if len(known) == len(values) else None
    return found
