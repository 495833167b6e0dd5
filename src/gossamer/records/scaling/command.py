"""The command: read, fit, print, and write the page if one is asked for."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gossamer.errors import DONE, FAILED, ConfigError
from gossamer.records import printing
from gossamer.records.find import Found, skim, uncollected, unfinished_lines
from gossamer.records.grouping import MOST
from gossamer.records.runs import runs
from gossamer.records.scaling.fits import FEWEST, Fitted, fitted
from gossamer.records.scaling.series import Asked, Series, budget, command, series
from gossamer.records.scaling.told import rows, show
from gossamer.records.schema import Skimmed

Format = Literal["table", "csv", "json"]
DEFAULT = Asked()


def main(
    paths: Sequence[str],
    format: Format = "table",
    asked: Asked = DEFAULT,
    output: Path | None = None,
) -> int:
    """Print the laws of all records below `paths`, and write them as a page to `output`; the exit
    status: 1 if no series has budgets enough. Raises ConfigError for a key, a metric or a condition
    that is none, and StageError if the disk refuses the page."""
    with uncollected():
        found = skim(paths)
        try:
            every, notes = fits(found, asked)
        except ConfigError as error:  # which names what is in the records
            raise ConfigError(printing.visible(str(error))) from error
    notes = [*unfinished_lines(found), *found.notes, *notes]
    if not found.records:
        where = " ".join(map(str, paths))
        notes.append(f"{where}: no finished run's record.json below; start one with `gossamer`")
    told = rows(every, asked)
    show(told, notes, format)
    if output is not None and every:
        from gossamer.records.scaling.page import write

        written = write(every, told, notes, output, asked)
        size = written.stat().st_size / 1e6
        print(f"{written}: {len(every)} series, {size:.1f} MB", file=sys.stderr)
    return DONE if every else FAILED


def fits(found: Found[Skimmed], asked: Asked) -> tuple[list[Fitted], list[str]]:
    """The series that have budgets enough with their laws, and notes on all others."""
    every = runs(found.records)
    if not every:
        return [], []
    if asked.where:
        from gossamer.records.query import where

        every = where(asked.where, every)
        if not every:
            return [], [f"--where {asked.where}: true of none of {len(found.records)} runs"]
    listed, notes = series(every, asked)
    enough = [one for one in listed if len(one.budgets) >= FEWEST]
    few = [one for one in listed if one not in enough]
    notes += [refusal(one, asked) for one in few[:MOST]]
    if len(few) > MOST:
        notes.append(f"… and {len(few) - MOST} more series of too few budgets")
    if not listed:
        notes.append("no compressed run with a gap to its twin: there is nothing to fit")
    return [fitted(one) for one in enough], notes


def refusal(one: Series, asked: Asked) -> str:
    """Why a series has no law, and what would give it one."""
    there = sorted({budget(run, asked.x) or 0 for run in one.runs})
    count = len(there)
    return (
        f"not fitted: {one.title}: {count} budget{'s' * (count != 1)} "
        f"({', '.join(f'{x:,}' for x in there)} {asked.x}); a law takes at least {FEWEST} "
        f"different ones. To run more: {command(one)}"
    )
