"""What several subcommands ask for: a config tree, a run's directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from gossamer.errors import ConfigError


def tree_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-cp", "--config-path", help="another config tree, instead of the shipped one"
    )
    parser.add_argument("-cn", "--config-name", help="another primary config in it")
    parser.add_argument("-cd", "--config-dir", help="a folder with more choices")


def run_directory(path: Path) -> Path:
    """The directory of a run, also if its record or config was named. Raises ConfigError."""
    directory = path if path.is_dir() else path.parent
    if not path.exists():
        raise ConfigError(f"RUN={path}: no such directory; gossamer compare outputs lists the runs")
    if not (directory / "config.yaml").is_file():
        raise ConfigError(
            f"RUN={path}: has no config.yaml; a run's directory is "
            "outputs/<name>/<digest>/seed<k>, gossamer compare outputs lists them"
        )
    return directory
