"""The subcommands: a file each, with its parser() and its call(args), imported when needed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence


def call(command: str, argv: Sequence[str]) -> int:
    """Parse a subcommand's arguments and do it; the exit status. argparse itself exits with 2."""
    module = importlib.import_module(f"{__name__}.{command.replace('-', '_')}")
    return module.call(module.parser().parse_args([*argv]))
