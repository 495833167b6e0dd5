"""`gossamer scaling-law`: how the gap to the dense twin falls with the budget.

series.py      runs as points (budget, gap), and which of them one law may be fitted to
laws.py        the laws, and their least-squares fits
resampling.py  bootstrap resamples and intervals
fits.py        the laws of a series, and what may be said of them
told.py        that as text, CSV and JSON; page.py as a page with plots
command.py     the command

The constants of published laws are nowhere here: each series is fitted to its own runs.
"""

from gossamer.records.scaling.command import main
from gossamer.records.scaling.series import Asked

__all__ = ["Asked", "main"]
