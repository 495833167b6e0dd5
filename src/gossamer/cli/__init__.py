"""The one door: `gossamer [overrides]`, and the subcommands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

COMMANDS = (
    "plan", "list", "resume", "bench", "sweep", "compare", "report", "scaling-law", "sync-wandb",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status: 0 done, 1 a run failed, 2 misconfigured,
    3 preempted and resumable. What a user can cause is printed as lines; bugs keep tracebacks."""
    from gossamer.errors import PREEMPTED, GossamerError

    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None and _only_prints(arguments) and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `gossamer list | head` ends quietly
    try:
        return _dispatch(arguments)
    except GossamerError as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return PREEMPTED


def _only_prints(argv: list[str]) -> bool:
    flags = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "-sc"}
    return argv[:1] in (["list"], ["compare"], ["scaling-law"]) or bool(flags & set(argv))


def _dispatch(argv: list[str]) -> int:
    if argv and argv[0] in COMMANDS:
        from gossamer.cli import commands

        return commands.call(argv[0], argv[1:])
    if argv == ["--version"]:
        from gossamer import __version__

        print(f"gossamer {__version__}")
        return 0
    from gossamer.cli import app

    return app.call(argv)
