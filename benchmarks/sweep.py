"""What a sweep costs besides the work of its jobs, and what a second worker brings.

    python benchmarks/sweep.py [--jobs 100] [--workers 1,2]

Tiny jobs (a BERT of two layers that prunes after a few steps) that share one dense base, made
before the clock starts. A job's own work is what its record says, from `started` to `finished`; the
rest of its process is start-up: Python, imports, reading the data. Every number of workers runs the
same jobs, in folders of their own, with the same number of threads (cores / most workers), so that
what differs is only how many run at once. Needs an idle machine. Writes
benchmarks/results/sweep-cpu.json and the table in docs/sweeps.md.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from gossamer.measure.speed import device_name
from gossamer.records import record as records

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "sweeps.md"
BEGIN, END = "<!-- sweep:begin -->", "<!-- sweep:end -->"
GOSSAMER = str(Path(sys.executable).with_name("gossamer"))
TINY = (
    "model=bert_tiny", "dataset=docstrings", "dataset.limit=64", "dataset.max_length=16",
    "dataset.batch_size=8", "trainer.base_steps=4", "trainer.steps=4", "trainer.accelerator=cpu",
    "trainer.progress=false", "compression=magnitude",
)  # fmt: skip


def sweep(jobs: int, workers: int, threads: int, folder: Path) -> dict[str, Any]:
    """Run the jobs in `folder`; seconds of the whole, and per job of its process and its work."""
    rates = ",".join(f"{1e-5 * (place + 1):.2e}" for place in range(jobs))
    base = [GOSSAMER, *TINY, "compression=none", "trainer.steps=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    subprocess.run(base, cwd=folder, env=environment, check=True, capture_output=True)
    command = [GOSSAMER, "-m", *TINY, f"compression.magnitude.lr={rates}", "twin=base"]
    began = time.perf_counter()
    subprocess.run(
        [*command, f"hydra.launcher.workers={workers}"],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - began
    states = [json.loads(file.read_text()) for file in folder.glob("outputs/sweeps/*/jobs/*.json")]
    found = [records.read(file) for file in folder.glob("outputs/*-magnitude/*/seed1/record.json")]
    assert len(states) == len(found) == jobs, (len(states), len(found))
    work = [_seconds(record) for record in found]
    process = [state["seconds"] for state in states]
    return {
        "workers": workers,
        "threads": threads,
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "seconds_per_job": round(seconds / jobs, 3),
        "process_p50": round(median(process), 2),
        "work_p50": round(median(work), 2),
        "wall_over_work": round(seconds * workers / sum(work), 3),
        "process_over_work": round(sum(process) / sum(work), 3),
    }


def _seconds(record: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(record[name]) for name in ("started", "finished"))
    return (ended - began).total_seconds()


def table(result: dict[str, Any]) -> str:
    lines = [
        "| workers | wall time | per job | a job's process | its own work | wall × workers / work |",  # noqa: E501
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['workers']} | {row['seconds']:.0f} s | {row['seconds_per_job']:.2f} s | "
        f"{row['process_p50']:.1f} s | {row['work_p50']:.1f} s | {row['wall_over_work']:.2f} |"
        for row in result["rows"]
    ]
    first, last = result["rows"][0], result["rows"][-1]
    told = (
        f"{first['jobs']} tiny jobs (`benchmarks/sweep.py`) on {result['device']}, "
        f"{result['cpus']} cores, {first['threads']} thread each, {result['date']}: "
        f"{last['workers']} workers are {result['speed_up']:.2f}× as fast as one. Medians."
    )
    return "\n".join([told, "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--workers", default="1,2")
    args = parser.parse_args()
    workers = [int(each) for each in args.workers.split(",")]
    threads = max(1, len(os.sched_getaffinity(0)) // max(workers))
    rows, load = [], os.getloadavg()[0]
    for many in workers:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(sweep(args.jobs, many, threads, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "rows": rows,
        "speed_up": round(rows[0]["seconds"] / rows[-1]["seconds"], 3),
        "device": device_name(),
        "cpus": os.cpu_count(),
        "load_at_start": round(load, 2),  # of the last minute
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    print(json.dumps(result, indent=1))
    folder = ROOT / "benchmarks" / "results"
    (folder / "sweep-cpu.json").write_text(json.dumps(result, indent=1) + "\n")
    text = PAGE.read_text(encoding="utf-8")
    new = f"{BEGIN}\n{table(result)}\n{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: new, text, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
