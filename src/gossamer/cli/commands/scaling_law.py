"""gossamer scaling-law: how the gap to the dense twin falls with the budget."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from gossamer.errors import ConfigError

FORMATS = ("table", "csv", "json")
EXAMPLES = """examples:
  gossamer scaling-law outputs -o scaling.html
  gossamer scaling-law outputs --by compression --where "dataset = 'stdlib'"
  gossamer scaling-law outputs --x steps --at 4000 8000 --format json
"""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer scaling-law",
        description="Fit laws of how the gap to the dense twin falls with the budget, over "
        "finished runs of at least three budgets (docs/scaling-law.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "paths", nargs="+", metavar="PATH", help="folders of runs or sweeps, or record.json files"
    )
    found.add_argument(
        "--metric",
        default="",
        metavar="NAME",
        help="the test metric of the gap (default: the loss of language models, else the primary "
        "metric)",
    )
    found.add_argument(
        "--x",
        choices=("tokens", "steps"),
        default="tokens",
        help="the budget: what the run's own steps saw (default: tokens)",
    )
    found.add_argument(
        "--by",
        nargs="+",
        default=[],
        metavar="KEY",
        help="a law for each value of these keys, e.g. compression (default: one for each "
        "configuration, budget and seed aside)",
    )
    found.add_argument(
        "--where", default="", metavar="SQL", help="only runs of which this condition is true"
    )
    found.add_argument(
        "--at",
        nargs="+",
        type=_budget,
        default=[],
        metavar="BUDGET",
        help="predict the gap at these budgets, e.g. 7.5e9",
    )
    found.add_argument(
        "--mix-twins",
        action="store_true",
        help="one law also over gaps to twins of different kinds, equal pairs or not",
    )
    found.add_argument(
        "--format", choices=FORMATS, default="table", help="how to print it (default: table)"
    )
    found.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="also write one page with the plots"
    )
    return found


def call(args: argparse.Namespace) -> int:
    for path in args.paths:
        if not Path(path).exists():
            raise ConfigError(f"PATH={path}: no such file or directory")
    if args.output is not None:
        if args.output.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"-o {args.output}: a page's name ends in .html: -o scaling.html")
        if args.output.is_dir():
            raise ConfigError(f"-o {args.output}: is a directory; name a file: -o scaling.html")
    from gossamer.records.scaling import Asked, main

    asked = Asked(
        metric=args.metric,
        x=args.x,
        by=args.by,
        where=args.where,
        at=args.at,
        mix_twins=args.mix_twins,
    )
    return main(args.paths, args.format, asked, args.output)


def _budget(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: a number of tokens or steps: --at 7.5e9")
    return found
