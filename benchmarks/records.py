"""What reading many runs costs: compare, and the report, over synthetic records.

    python benchmarks/records.py [--counts 100 1000 10000] [--rounds 5]

Each command runs in a fresh process, start-up included, its output thrown away, over records that
tests/records/synthetic.py wrote (13 kB each, 36 layers). Seconds are the best and the median of the
rounds after one that warms the disk's cache; memory is the process's peak. The growth between two
counts is the exponent k of seconds ~ count^k: 1 is linear. Writes
benchmarks/results/records-cpu.json.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
COMPARE = ("-m", "gossamer.cli", "compare")
COMMANDS: dict[str, tuple[str, ...]] = {
    "compare": (),
    "compare --by": ("--by", "compression", "trainer.lr"),
    "compare --metric": ("--metric", "loss", "size.checkpoint_bytes", "speed.batch 1.p50"),
    "compare --baseline": ("--baseline", "compression=none"),
    "compare --pareto": ("--pareto", "quality,size.checkpoint_bytes"),
    "compare --where": ("--where", "trainer.lr < 1e-3 and accuracy > 0.7"),
    "compare --format json": ("--format", "json"),
}
REPORT = "import sys; from gossamer.records.report import build; build([sys.argv[1]], sys.argv[2])"


def timed(command: Sequence[str]) -> tuple[float, int]:
    """(seconds, peak bytes of memory) of a process, which must end well."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss * 1024


def measured(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, dict[str, Any]]:
    """The commands' figures. They take turns, so that a busy moment meets all of them alike."""
    taken: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            figures = timed(command)
            if turn:
                taken[name].append(figures)
    return {
        name: {
            "best": round(min(seconds for seconds, _ in figures), 3),
            "median": round(statistics.median(seconds for seconds, _ in figures), 3),
            "peak_memory_mb": round(max(memory for _, memory in figures) / 1e6, 1),
        }
        for name, figures in taken.items()
    }


def commands(records: Path, page: Path) -> dict[str, tuple[str, ...]]:
    found = {name: (*COMPARE, str(records), *flags) for name, flags in COMMANDS.items()}
    if importlib.util.find_spec("gossamer.records.report"):
        found["report"] = ("-c", REPORT, str(records), str(page))
    return found


def processor() -> str:
    """As Linux names it; measure/speed.py knows more, and imports torch."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def growth(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The exponent of seconds (best) between consecutive counts."""
    return {
        f"{one['records']} to {other['records']}": round(
            math.log(other["best"] / one["best"]) / math.log(other["records"] / one["records"]), 2
        )
        for one, other in pairwise(rows)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.records import synthetic

    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in args.counts:
            records, page = Path(folder, str(count)), Path(folder, f"{count}.html")
            synthetic.write(records, count)
            for name, figures in measured(commands(records, page), args.rounds).items():
                if name == "report":
                    figures["page_mb"] = round(page.stat().st_size / 1e6, 2)
                results.setdefault(name, []).append({"records": count, **figures})
                print(f"{count:>6} records  {name:<22}", *figures.items(), flush=True)
    print(f"\n{'':<22}" + "".join(f"{count:>10}" for count in args.counts) + "   growth")
    for name, rows in results.items():
        seconds = "".join(f"{row['best']:>8.2f} s" for row in rows)
        print(f"{name:<22}{seconds}   {', '.join(map(str, growth(rows).values()))}")
    told = {
        "seconds": {name: {"rows": rows, "growth": growth(rows)} for name, rows in results.items()},
        "rounds": args.rounds,
        "machine": {
            "processor": processor(),
            "cpus": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("msgspec", "duckdb")},
        },
        "date": date.today().isoformat(),
    }
    file = ROOT / "benchmarks" / "results" / "records-cpu.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
