"""gossamer sync-wandb: what runs left on disk, told to wandb afterwards, once."""

from __future__ import annotations

import argparse
from pathlib import Path

from gossamer.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer sync-wandb",
        description="Send the runs found under any paths to wandb, each once: metrics, figures, "
        "layers, models. What is there already is left alone.",
    )
    found.add_argument(
        "paths", nargs="+", metavar="PATH", help="runs, folders above them, or sweeps"
    )
    found.add_argument("--project", help="default: the run's own logger.project, else gossamer")
    found.add_argument(
        "--entity", help="user or team; default: the run's own logger.entity, else the key's"
    )
    found.add_argument(
        "--dry-run", action="store_true", help="say what would be sent; no key needed"
    )
    return found


def call(args: argparse.Namespace) -> int:
    from gossamer.records.wandb_sync import main

    for path in args.paths:
        if not Path(path).exists():
            raise ConfigError(f"PATH={path}: no such file or directory")
    return main(args.paths, args.project, args.entity, args.dry_run)
