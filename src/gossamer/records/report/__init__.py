"""`gossamer report`: one self-contained HTML page over any number of records.

gather.py    what the page shows, as plain data; overview.py its sentences, curves.py its curves
page.py      that data, plotly and assets/ put into one file
watch.py     the same again while a sweep runs
"""

from gossamer.records.report.page import build
from gossamer.records.report.watch import main

__all__ = ["build", "main"]
