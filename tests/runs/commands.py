"""Typing `gossamer …` in a process of its own, on a model and data that take a second to train."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.records import record as records

GOSSAMER = str(Path(sys.executable).with_name("gossamer"))
PATIENCE = 300  # seconds until a process counts as hanging
MODEL = (
    "model=bert_tiny",
    "model.width=32",
    "model.heads=4",
    "model.neurons=48",
    "model.vocabulary=1000",
)
TRAINER = (
    "trainer.base_steps=4",
    "trainer.steps=6",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "trainer.lr=1e-3",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)
SMALL = ("dataset.limit=48", "dataset.max_length=16", "dataset.batch_size=8")
DOCSTRINGS = (*MODEL, *TRAINER, "dataset=docstrings", *SMALL)
LANGUAGE = (
    "model=llama_tiny",
    "model.width=32",
    "model.heads=4",
    "model.neurons=64",
    "model.layers=2",
    "model.vocabulary=300",
    *TRAINER,
    "dataset=stdlib",
    "dataset.limit=12",
    "dataset.held_out=3",
    "dataset.context=32",
    "dataset.batch_size=8",
)
VISION = (
    "model=vit_tiny",
    "model.width=32",
    "model.heads=4",
    "model.layers=2",
    "model.neurons=64",
    *TRAINER,
    "dataset=digits",
    "dataset.limit=60",
    "dataset.batch_size=8",
)
VARIES = ("started", "finished", "speed", "git", "overrides")  # between two runs of one command


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit status (negative: the signal that killed it) and its output."""

    status: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr, where TRAINER has turned progress off."""
        return [line for line in self.err.splitlines() if line.strip()]


def environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("GOSSAMER_")}
    return {**own, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def start(*words: str, cwd: Path, preexec: Callable[[], None] | None = None) -> subprocess.Popen:
    """Start `gossamer words…` in `cwd`, where its outputs/ will be."""
    return subprocess.Popen(
        [GOSSAMER, *words],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec,
    )


def wait(process: subprocess.Popen) -> Ended:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"hangs: {process.args}\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def gossamer(*words: str, cwd: Path, preexec: Callable[[], None] | None = None) -> Ended:
    return wait(start(*words, cwd=cwd, preexec=preexec))


def stop_when(
    there: Callable[[], bool], *words: str, cwd: Path, number: int, delay: float = 0.0
) -> Ended:
    """Send the signal `number` to `gossamer words…`, `delay` seconds after `there()` holds."""
    process = start(*words, cwd=cwd)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not there() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay)
    if process.poll() is None:
        os.kill(process.pid, number)
    return wait(process)


def killed_when(there: Callable[[], bool], *words: str, cwd: Path, delay: float = 0.0) -> Ended:
    return stop_when(there, *words, cwd=cwd, number=signal.SIGKILL, delay=delay)


def run_directory(cwd: Path) -> Path:
    """The one run under `cwd`/outputs."""
    (config,) = (cwd / "outputs").glob("*/*/seed*/config.yaml")
    return config.parent


def record(directory: Path) -> dict[str, Any]:
    return records.read(directory / "record.json")


def figures(directory: Path) -> dict[str, Any]:
    """What two runs of one command must agree on: everything in the record but times."""
    told = {key: value for key, value in record(directory).items() if key not in VARIES}
    told["stages"] = [{**row, "seconds": 0} for row in told["stages"]]
    return told


def weights_digest(directory: Path) -> str:
    return hashlib.sha256((directory / "export" / "model.safetensors").read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file under `folder`: when it was written, and what it holds."""
    return {
        str(file.relative_to(folder)): (
            file.stat().st_mtime_ns,
            hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "lock"
    }


def copied(directory: Path, cwd: Path) -> Path:
    """A copy, under `cwd`, of the run in `directory` and of the dense bases beside it."""
    outputs = directory.parents[2]
    again = cwd / "outputs" / directory.relative_to(outputs)
    shutil.copytree(outputs / "base", cwd / "outputs" / "base")
    shutil.copytree(directory, again)
    return again


def metrics(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def logged(cwd: Path) -> int:
    """Lines that the run under `cwd` has logged so far."""
    files = list((cwd / "outputs").glob("*/*/seed*/metrics.jsonl"))
    return sum(file.read_text(errors="replace").count("\n") for file in files)


def one_line(ended: Ended, *words: Sequence[str]) -> str:
    """The single complaint of a command that failed, with all `words` in it."""
    assert "Traceback" not in ended.err, ended.err
    (line,) = ended.complaints
    for word in words:
        assert word in line, line
    return line
