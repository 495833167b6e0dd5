"""gossamer bench: measure a finished run again, on this device."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gossamer.cli.commands.places import run_directory


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer bench",
        description="Measure a finished run's model and its twin again, on this device.",
    )
    found.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    found.add_argument(
        "--batch",
        type=_sizes,
        default=(1, 32),
        metavar="1,8,32",
        help="batch sizes (default: 1,32)",
    )
    found.add_argument(
        "--device", type=_device, default="cpu", help="cpu, cuda, cuda:1, mps (default: cpu)"
    )
    return found


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(each) for each in text.split(","))
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError("batch sizes are whole numbers from 1, by commas: 1,8,32")
    return sizes


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text}: a device is cpu, cuda, cuda:1 or mps")
    return text


def call(args: argparse.Namespace) -> int:
    directory = run_directory(args.run)
    from gossamer.run import bench

    return bench(directory, args.batch, args.device)
