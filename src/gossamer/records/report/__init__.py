"""`gossamer report`: one self-contained HTML page over any number of records.

gather.py    what the page shows, as plain data; curves.py its curves
overview.py  its sentences, out of groups.py (what is one configuration, what has one scale),
             estimates.py (quality and its differences) and ledgers.py (costs)
page.py      that data, plotly and assets/ put into one file
watch.py     the same again while a sweep runs
"""

from gossamer.records.report.page import build
from gossamer.records.report.watch import main

__all__ = ["build", "main"]
