"""What a job is told of the machine that it shares: how many threads are its own, and who else is
there."""

from __future__ import annotations

import os
from collections.abc import Mapping

from gossamer.measure.neighbours import NEIGHBOURS

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def share(threads: int, neighbours: str | int, own: Mapping[str, str]) -> dict[str, str]:
    """The variables of a job. A number of threads that the user has set in the environment stays,
    and so do the launcher's `own` variables."""
    counts = {name: os.environ.get(name, str(threads)) for name in THREADS}
    return {**counts, **own, NEIGHBOURS: str(neighbours)}
