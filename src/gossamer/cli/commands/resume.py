"""gossamer resume: go on with a run that was cut off."""

from __future__ import annotations

import argparse
from pathlib import Path

from gossamer.cli.commands.places import run_directory


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer resume",
        description="Go on with a run that was cut off, from its last finished unit or checkpoint.",
    )
    found.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    return found


def call(args: argparse.Namespace) -> int:
    directory = run_directory(args.run)
    from gossamer.run import resume

    return resume(directory)
