"""What benchmarks share: one command line run to its end, and the record that it leaves."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def gossamer(words: Sequence[str], threads: int) -> str:
    """Run `gossamer words…` in a process of its own; its output. One that fails ends the
    benchmark."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "gossamer.cli", *words]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"gossamer {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def record_of(words: Sequence[str], threads: int) -> Path:
    """The record of one run, made now if it is not there."""
    text = gossamer(words, threads)
    found = re.search(r"^record +(\S+)$", text, re.MULTILINE)
    assert found, text
    return ROOT / found[1]


def origin(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a benchmark's result says of the runs behind it, read off one of them; and the date."""
    return {
        "device": record["speed"][-1].get("device", record["device"]),
        "versions": record["versions"],
        "git": record["git"],
        "date": date.today().isoformat(),
    }


def between(page: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Put `lines` between two marks of a page."""
    text = page.read_text()
    before, after = text.split(begin)[0], text.split(end)[1]
    page.write_text("\n".join([f"{before}{begin}", *lines, f"{end}{after}"]))
