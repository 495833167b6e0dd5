"""gossamer report: one page over any number of records."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from gossamer.errors import ConfigError

EVERY = 30.0  # seconds


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer report",
        description="Write one self-contained HTML page over the records found under any paths; "
        "it opens from disk, without a network.",
    )
    found.add_argument("paths", nargs="+", metavar="PATH", help="directories or record.json files")
    found.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page to write (default: report.html)",
    )
    found.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=EVERY,
        metavar="SECONDS",
        help="write it again while runs go on, and let the page refresh itself; "
        f"every so many seconds (default: {EVERY:g}), until Ctrl-C",
    )
    return found


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 1 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: seconds, 1 or more: --watch 30")
    return found


def call(args: argparse.Namespace) -> int:
    from gossamer.records.report import main

    for path in args.paths:
        if not Path(path).exists():
            raise ConfigError(f"PATH={path}: no such file or directory")
    if args.output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"-o {args.output}: a page's name ends in .html: -o report.html")
    if args.output.is_dir():
        raise ConfigError(f"-o {args.output}: is a directory; name a file: -o report.html")
    return main(args.paths, args.output, args.watch)
