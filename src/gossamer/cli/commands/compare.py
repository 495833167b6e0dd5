"""gossamer compare: one table over any number of records."""

from __future__ import annotations

import argparse
from pathlib import Path

from gossamer.errors import ConfigError

FORMATS = ("table", "csv", "json", "markdown")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer compare", description="One table over the records found under any paths."
    )
    found.add_argument("paths", nargs="+", metavar="PATH", help="directories or record.json files")
    found.add_argument(
        "--format", choices=FORMATS, default="table", help="how to print it (default: table)"
    )
    return found


def call(args: argparse.Namespace) -> int:
    from gossamer.records.compare import main

    for path in args.paths:
        if not Path(path).exists():
            raise ConfigError(f"PATH={path}: no such file or directory")
    return main(args.paths, args.format)
