"""gossamer compare: one table over any number of records."""

from __future__ import annotations

import argparse
from pathlib import Path

from gossamer.errors import ConfigError

FORMATS = ("table", "csv", "json", "markdown")
EXAMPLES = """examples:
  gossamer compare outputs --by compression trainer.lr --metric accuracy size.checkpoint_bytes
  gossamer compare outputs --baseline compression=none --samples
  gossamer compare outputs --where "model = 'minilm' and trainer.lr < 1e-3"
  gossamer compare outputs --pareto quality,size.checkpoint_bytes --format markdown
"""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer compare",
        description="One table over the records found under any paths (docs/compare.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "paths", nargs="+", metavar="PATH", help="folders of runs or sweeps, or record.json files"
    )
    found.add_argument(
        "--by",
        nargs="+",
        default=[],
        metavar="KEY",
        help="a row for each value of these keys, e.g. compression trainer.lr (default: a row for "
        "each configuration)",
    )
    found.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="NAME",
        help="figures to show, e.g. accuracy size.checkpoint_bytes 'speed.batch 1.p50' (default: "
        "the primary metric and the ledgers)",
    )
    found.add_argument(
        "--baseline",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="paired differences to the runs that have these values, e.g. compression=none",
    )
    found.add_argument(
        "--pareto",
        type=_pair,
        default=[],
        metavar="X,Y",
        help="mark the front of two figures within each model, data set and task, e.g. "
        "quality,size.checkpoint_bytes",
    )
    found.add_argument(
        "--across-models", action="store_true", help="with --pareto: one front over all models"
    )
    found.add_argument(
        "--where", default="", metavar="SQL", help="only runs of which this condition is true"
    )
    found.add_argument(
        "--samples",
        action="store_true",
        help="test row by row too, where predictions were kept: McNemar for accuracy, else a "
        "bootstrap",
    )
    found.add_argument(
        "--format", choices=FORMATS, default="table", help="how to print it (default: table)"
    )
    return found


def call(args: argparse.Namespace) -> int:
    from gossamer.records.compare import Asked, main

    for path in args.paths:
        if not Path(path).exists():
            raise ConfigError(f"PATH={path}: no such file or directory")
    if args.across_models and not args.pareto:
        raise ConfigError("--across-models: it is of --pareto X,Y; add that")
    asked = Asked(
        by=args.by,
        metrics=args.metric,
        baseline=args.baseline,
        pareto=args.pareto,
        across_models=args.across_models,
        where=args.where,
        samples=args.samples,
    )
    return main(args.paths, args.format, asked)


def _pair(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise argparse.ArgumentTypeError(
            f"{text!r}: two figures with a comma between them, e.g. quality,size.checkpoint_bytes"
        )
    return names
