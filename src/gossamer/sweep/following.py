"""Looking at a sweep from outside the process that submitted it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from gossamer.errors import StageError
from gossamer.sweep import jobs as sweeps
from gossamer.sweep import slurm
from gossamer.sweep.jobs import Job, State

LOOK = 2.0  # seconds


def look(folder: Path) -> tuple[list[Job], list[State]]:
    """The jobs of the sweep in `folder` and the state of each, with what Slurm and this machine's
    process table say about those that are not over."""
    manifest = sweeps.read(folder)
    jobs = sweeps.of(folder, manifest)
    ids = slurm.read_ids(folder)
    try:
        there: Mapping[str, str] | None = slurm.queue() if ids else {}
    except StageError:
        there = None
    found = sweeps.states(jobs, manifest)
    driven = _driven(folder)
    return jobs, [
        _now(job, state, ids.get(job.key), there, driven)
        for job, state in zip(jobs, found, strict=True)
    ]


def _driven(folder: Path) -> bool:
    """Is there a process that starts the jobs of this sweep?"""
    lock = FileLock(folder / sweeps.LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # somebody else's folder cannot be locked, so nothing is known
        return True
    lock.release()
    return False


def _now(
    job: Job, state: State, name: str | None, there: Mapping[str, str] | None, driven: bool
) -> State:
    if there is None and name is not None:
        return state if state.over else replace(state, error="Slurm cannot be asked from here")
    if name is not None and there and name in there and slurm.goes_on(state):
        running = there[name] == "RUNNING"
        return replace(state, name="running" if running else "waiting", error="")
    if state.over:
        return state
    if name is not None and name not in (there or {}):
        return slurm.lost(state, name)
    if state.name == "waiting" and not driven:
        return replace(state, name="not started")
    if state.name == "running" and state.host == platform.node() and not alive(state.pid):
        saved = job.recorded().get("status") == "preempted"
        error = "" if saved else f"its process {state.pid} is gone"
        return replace(state, name="preempted" if saved else "lost", error=error)
    return state


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # ended, but nobody has asked how
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def wait(folder: Path, tell: Callable[[Job, State, Sequence[Job]], None]) -> None:
    """Wait until every job of the sweep in `folder` is over; `tell` hears of each that ends."""
    before: set[str] | None = None
    while True:
        jobs, states = look(folder)
        over = {job.key for job, state in zip(jobs, states, strict=True) if state.over}
        for job, state in zip(jobs, states, strict=True):
            if before is not None and job.key in over - before:
                tell(job, state, jobs)
        if len(over) == len(jobs):
            return
        before = over
        time.sleep(LOOK)
