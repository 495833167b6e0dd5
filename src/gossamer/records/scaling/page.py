"""One self-contained page: each series' gaps over its budgets, with the laws and their bands.
Style, plotting library and security policy are the report's."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.records.record import write_text
from gossamer.records.report.page import assembled, asset
from gossamer.records.scaling.fits import Fit, Fitted
from gossamer.records.scaling.series import Asked
from gossamer.records.scaling.told import DRAWN, Told, three

PLACES = 60  # of a drawn curve
BEYOND = 2.0  # how far a curve goes on past the budgets, as a factor
Curve = dict[str, Any]


def write(
    every: Sequence[Fitted], told: Sequence[Told], notes: Sequence[str], output: Path, asked: Asked
) -> Path:
    """Write the page of these series, whole or not at all; its path. `told` are the same series as
    plain data. Raises StageError if the disk refuses."""
    shown = [
        {**row, "drawn": DRAWN[one.drawn], "curves": [curve(fit, one, asked) for fit in one.fits]}
        for one, row in zip(every, told, strict=True)
    ]
    style = asset("style.css") + asset("table.css") + _own("scaling.css")
    script = "\n".join([asset("dom.js"), asset("plots.js"), _own("scaling.js")])
    data = {"series": shown, "notes": list(notes)}
    write_text(output, assembled(_own("scaling.html"), style, script, data))
    return output


def curve(fit: Fit, one: Fitted, asked: Asked) -> Curve:
    """A law's gaps with their band, from half the least budget to twice the largest, or as far as
    predictions were asked for."""
    budgets = list(one.series.budgets)
    low, high = min(budgets[0], *asked.at, budgets[0]), max(budgets[-1], *asked.at, budgets[-1])
    places = np.geomspace(low / BEYOND, high * BEYOND, PLACES)
    places = np.unique(np.concatenate([places, [budgets[0], budgets[-1]]]))
    estimates = [three(each) for each in fit.at(list(places))]
    return {
        "law": fit.law.name,
        "x": [float(x) for x in places],
        **{name: [each[name] for each in estimates] for name in ("value", "low", "high")},
    }


def _own(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")
