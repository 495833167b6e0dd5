"""One run in this process, from one resolved file: python -m gossamer.cli.job CONFIG.yaml

The jobs of a sweep are started like this, each in a fresh process, so that none inherits another's
globals, allocator or loggers, and so that a multi-process trainer restarts one run, not the sweep.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.errors import MISCONFIGURED, PREEMPTED, GossamerError
from gossamer.revision import code_digest
from gossamer.sweep.work import ATTEMPT, PARENT, SUBMITTED

LOOK = 1.0  # seconds between two looks at whether the parent is there


def execute(config: Mapping[str, Any]) -> int:
    """Run a frozen config; the exit status. Errors of the family are printed as lines; a bug keeps
    its traceback."""
    from gossamer.run import run

    try:
        return run(config)
    except GossamerError as error:
        return complain(error)
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on in {config['directory']}", file=sys.stderr)
        return PREEMPTED


def complain(error: GossamerError) -> int:
    """Print an error, one line for each problem, and give its exit status."""
    print(error, file=sys.stderr)
    return error.status


def main(argv: list[str]) -> int:
    from gossamer.cli.frozen import read

    if len(argv) != 1:
        print("usage: python -m gossamer.cli.job CONFIG.yaml", file=sys.stderr)
        return MISCONFIGURED
    try:
        config = read(Path(argv[0]))
    except GossamerError as error:
        return complain(error)
    if int(os.environ.get(ATTEMPT, "1")) > 1:
        config = {**config, "rerun": False}  # what the first attempt saved is what it reran
    _follow(os.environ.get(PARENT))
    _warn_of_other_code(os.environ.get(SUBMITTED))
    return execute(config)


def _warn_of_other_code(submitted: str | None) -> None:
    if submitted is not None and submitted != code_digest():
        print(
            "warning: the code has changed since this job was submitted; what runs is what is here "
            "now (sweep.snapshot=true keeps a copy)",
            file=sys.stderr,
        )


def _follow(parent: str | None) -> None:
    """Stop, with the state saved, when the process that started this job is gone: a sweep that was
    killed leaves no job behind that the next start would collide with."""
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
