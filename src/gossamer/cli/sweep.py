"""gossamer -m …: every job checked and frozen at submission, run in a fresh process, reported."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from gossamer.cli.check import Command
from gossamer.cli.freeze import freeze
from gossamer.cli.frozen import read, write
from gossamer.cli.overrides import parse
from gossamer.errors import DONE, FAILED, MISCONFIGURED, PREEMPTED, GossamerError

LOST, WAITING = "lost", "not started"  # of jobs that left no exit status
STATES = {DONE: "done", FAILED: "failed", MISCONFIGURED: "misconfigured", PREEMPTED: "preempted"}


def call(command: Command, argv: Sequence[str], launch: Callable[[Sequence[str]], int]) -> int:
    """Freeze the jobs of a checked sweep, launch them through Hydra, print each one's state.

    A job that fails does not stop the sweep. Exit status: 0 all done, 1 one failed, 3 one was
    preempted and none failed; the same command goes on with what is not done."""
    folder = _folder(command, argv)
    jobs = folder / "jobs"
    for job in command.jobs:
        write(freeze(job), jobs / f"{key(job.overrides)}.yaml")
        (jobs / f"{key(job.overrides)}.json").unlink(missing_ok=True)
    started = time.time()
    stopped = launch([*_swept(command, argv), f"hydra.sweep.dir={json.dumps(str(folder))}"])
    absent = WAITING if stopped == PREEMPTED else LOST
    states = _states(command, jobs, started, absent)
    print(_table(states))
    found = {state["status"] for state in states} | {stopped}
    if found <= {DONE}:
        return DONE
    return PREEMPTED if found <= {DONE, PREEMPTED, WAITING} else FAILED


def key(overrides: Sequence[str]) -> str:
    """The name of a job's file, from what was typed for it; Hydra hands 1e-3 over as 0.001."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    written = [f"{each.get_key_element()}={each.get_value_element_as_str()}" for each in parsed]
    return _short(written)


def _short(words: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:12]


def _folder(command: Command, argv: Sequence[str]) -> Path:
    """outputs/sweeps/<digest of the jobs>, unless hydra.sweep.dir says where."""
    assert command.base is not None
    chosen = Path(str(command.base.hydra.sweep.dir))
    if any(each.lstrip("+").startswith("hydra.sweep.dir=") for each in argv):
        return chosen
    typed = [job.overrides for job in command.jobs] or [sorted(argv)]
    return chosen / _short([json.dumps(each) for each in typed])


def _swept(command: Command, argv: Sequence[str]) -> list[str]:
    """The arguments, with each single value written as a sweep over one: Hydra applies single
    values to the *default* choices first, and refuses a key that only the swept choices have."""
    written = []
    for text in argv:
        parsed = [] if text.startswith("-") or "=" not in text else parse([text], command.tree)[0]
        override = parsed[0] if parsed else None
        plain = (
            override is not None
            and not override.is_sweep_override()
            and not override.is_delete()
            and not override.is_hydra_override()
            and not command.tree.is_group(override.key_or_group)
        )
        name, _, value = text.partition("=")
        written.append(f"{name}=choice({value})" if plain else text)
    return written


def work(overrides: Sequence[str], folder: Path, compose: Callable[[], dict[str, Any]]) -> None:
    """One job of a sweep, wherever the launcher runs it: start its process, wait, note its state.

    `compose` makes the config of a job that was not there at submission (a sweeper that invents
    values); all others are read from the file that was frozen then."""
    file = folder / "jobs" / f"{key(overrides)}.yaml"
    started = time.time()
    interrupted = False
    try:
        if not file.exists():
            write(compose(), file)
        status, interrupted = _process(file)
        directory = read(file)["directory"]
    except GossamerError as error:
        print(error, file=sys.stderr)
        status, directory = error.status, ""
    state = {
        "overrides": list(overrides),
        "status": status,
        "seconds": round(time.time() - started, 1),
        "finished": time.time(),
        "directory": directory,
    }
    file.with_suffix(".json").write_text(json.dumps(state))
    if interrupted:
        raise SystemExit(PREEMPTED)


def _process(file: Path) -> tuple[int, bool]:
    """(exit status, was this sweep asked to stop?). The job gets the signals that the sweep gets,
    and the time to save its state."""
    child = subprocess.Popen([sys.executable, "-m", "gossamer.cli.job", str(file)])
    with _passing_on(child) as received:
        while True:
            try:
                return child.wait(), bool(received)
            except KeyboardInterrupt:  # the terminal sent it to the job as well
                received.append(signal.SIGINT)


@contextmanager
def _passing_on(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    received: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        child.send_signal(number)

    try:
        before = signal.signal(signal.SIGTERM, pass_on)
    except ValueError:  # not the main thread: a launcher with threads handles signals itself
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def _states(command: Command, jobs: Path, started: float, absent: str) -> list[dict[str, Any]]:
    """The state of every job of this sweep; `absent` is that of one that left none."""
    names = [key(job.overrides) for job in command.jobs]
    if not command.enumerated:
        names = sorted(file.stem for file in jobs.glob("*.json"))
    states = []
    for index, name in enumerate(names):
        file = jobs / f"{name}.json"
        if file.exists():
            state = json.loads(file.read_text())
            if command.enumerated or state["finished"] >= started:
                states.append(state)
        else:
            overrides = command.jobs[index].overrides
            states.append(
                {"overrides": overrides, "status": absent, "seconds": 0.0, "directory": ""}
            )
    return states


def _table(states: list[dict[str, Any]]) -> str:
    rows = [("job", "state", "seconds", "directory", "overrides")]
    for index, state in enumerate(states):
        status = state["status"]
        name = status if isinstance(status, str) else STATES.get(status, f"failed ({status})")
        if isinstance(status, int) and status < 0:
            name = f"killed ({signal.Signals(-status).name})"
        typed = " ".join(state["overrides"])
        rows.append((f"#{index}", name, f"{state['seconds']:.1f}", state["directory"], typed))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for *cells, typed in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([*padded, typed]).rstrip())
    return "\n".join(lines)
