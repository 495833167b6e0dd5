"""One job: a fresh process that reads the job's config file, and a note of how it ended.

Every launcher ends here, so that under each of them nothing leaks from one job into the next, the
job is told to stop in the same way, and its state is written in the same place.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from gossamer.errors import DONE, MISCONFIGURED, PREEMPTED
from gossamer.sweep.jobs import Job, Name, State

LOOK = 0.2  # seconds between two looks at whether the job is to stop
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
SUBMITTED = "GOSSAMER_SUBMITTED"  # the digest of the code that a job was submitted with
ATTEMPT = "GOSSAMER_ATTEMPT"  # from 1; later ones go on, also with rerun=true
PARENT = "GOSSAMER_PARENT"  # the process that a job follows: it stops when that one is gone


def work(
    job: Job, environment: Mapping[str, str] | None = None, heard: list[int] | None = None
) -> State:
    """Run `job` to its end in a process of its own, with `environment` on top of this process's.

    Signals that ask this process to stop are passed on, so that the job saves its state first, and
    noted in `heard`."""
    heard = [] if heard is None else heard
    began = time.time()
    attempts, host = job.state().attempts + 1, platform.node()
    starved = _kills_for_memory()
    with job.path("log").open("ab") as log:
        own = {**(environment or {}), PARENT: str(os.getpid()), ATTEMPT: str(attempts)}
        child = _start(job, own, log)
        job.note(State("running", host=host, pid=child.pid, attempts=attempts))
        with _passing_on(child, heard):
            status = _wait(child, job, heard)
    name, error = _ending(job, status, heard, _kills_for_memory() > starved, began)
    job.path("stop").unlink(missing_ok=True)
    ended = time.time()
    return job.note(State(name, error, round(ended - began, 1), ended, host, attempts=attempts))


def _start(job: Job, environment: Mapping[str, str], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: nothing in the folder where the sweep was started takes the place of a module
        [sys.executable, "-P", "-m", "gossamer.cli.job", str(job.path("yaml"))],
        cwd=job.cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def _wait(child: subprocess.Popen[bytes], job: Job, heard: list[int]) -> int:
    """The exit status of the job, which is asked to stop when its stop file appears."""
    while True:
        try:
            return child.wait(timeout=LOOK)
        except subprocess.TimeoutExpired:
            if not heard and job.path("stop").exists():
                heard.append(signal.SIGTERM)
                child.send_signal(signal.SIGTERM)
        except KeyboardInterrupt:  # Ray cancels a task like this
            heard.append(signal.SIGINT)
            child.send_signal(signal.SIGTERM)


@contextmanager
def _passing_on(child: subprocess.Popen[bytes], heard: list[int]) -> Iterator[None]:
    def pass_on(number: int, _: FrameType | None) -> None:
        heard.append(number)
        child.send_signal(number)

    try:
        before = {number: signal.signal(number, pass_on) for number in STOPS}
    except ValueError:  # not the main thread: whoever has it passes signals on by stop files
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending(
    job: Job, status: int, heard: list[int], starved: bool, began: float
) -> tuple[Name, str]:
    """What an exit status means, and the one line that says why."""
    if status == DONE:
        return "done", ""
    if status < 0 and starved and -status == signal.SIGKILL:
        return "out of memory", "the system killed it for memory"
    if status == PREEMPTED or (heard and -status in STOPS):  # perhaps before it had begun
        return "preempted", ""
    if status < 0:
        return "killed", signal.Signals(-status).name
    if status == MISCONFIGURED:
        return "misconfigured", _last_line(job.path("log"))
    error = str(job.recorded(since=began).get("error") or _last_line(job.path("log")))
    return ("out of memory" if error.startswith("out of memory") else "failed"), error


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _kills_for_memory() -> int:
    """Processes that Linux has killed so far for want of memory; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
