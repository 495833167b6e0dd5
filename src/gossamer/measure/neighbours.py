"""Who else used the machine while something was measured on it. Imports nothing that takes time:
whoever starts jobs writes here what a job's measurements read."""

from __future__ import annotations

import os

NEIGHBOURS = "GOSSAMER_NEIGHBOURS"  # the variable by which a job is told
UNKNOWN = "unknown"  # in a queue, nobody can tell


def neighbours() -> int | None:
    """How many other jobs of the sweep share this machine; None: nobody knows."""
    told = os.environ.get(NEIGHBOURS, "0")
    return int(told) if told.isdecimal() else None
