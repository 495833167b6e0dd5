"""gossamer sweep: look at a sweep that was submitted, or wait for it and compare its runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gossamer.sweep.jobs import Job, State


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer sweep",
        description="Follow a sweep from any process: `status` says what each job does now, "
        "`collect` waits for all of them and compares their runs. Exit status as the sweep's: "
        "0 all done, 1 one failed, 3 not all are done yet.",
    )
    found.add_argument("what", choices=("status", "collect"))
    found.add_argument(
        "folder", metavar="DIR", type=Path, help="the sweep's folder, outputs/sweeps/<digest>"
    )
    return found


def call(args: argparse.Namespace) -> int:
    from gossamer.records import compare
    from gossamer.sweep import following, table

    if args.what == "collect":
        following.wait(args.folder, _tell)
    found, states = following.look(args.folder)
    table.show(found, states)
    if args.what == "collect":
        print()
        compare.main([str(args.folder)])
    return table.status(states)


def _tell(job: Job, state: State, jobs: Sequence[Job]) -> None:
    from gossamer.sweep import table

    print(table.line(job, state, jobs.index(job), table.shared(jobs)), file=sys.stderr, flush=True)
