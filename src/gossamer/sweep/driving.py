"""Running the jobs of a sweep: start them, see them end, stop them when asked."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, Self

from gossamer.sweep.jobs import BAD, Job, State

LOOK = 0.05  # seconds


class Workers(Protocol):
    """Where jobs run: processes of this machine, a Slurm queue, a Ray cluster. A context manager;
    leaving it does not stop jobs."""

    slots: int | None  # jobs that may run at once; None: the queue decides
    queued: bool  # does it go on without this process?
    environment: Mapping[str, str]  # variables of every job

    def start(self, jobs: Sequence[Job]) -> None:
        """Start or queue them; at most as many as there are free slots."""

    def ended(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of `jobs` that have ended, for whatever reason; their state says how. Does not
        wait."""

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Take back jobs that are queued and have not begun; those that run are left alone."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def drive(
    jobs: Sequence[Job],
    workers: Workers,
    *,
    stop_on_error: bool = False,
    tell: Callable[[Job, State], None] = lambda job, state: None,
) -> bool:
    """Run `jobs`; returns whether this process was asked to stop before they had ended.

    `tell` hears of each job that was started and of each that ended. Asked to stop by SIGTERM or
    Ctrl-C, jobs of this process save their state first; a queue keeps its jobs."""
    if not workers.queued:  # a queue marks what it takes; some may be in it already
        for job in jobs:
            job.submitted()
    waiting, running = deque(jobs), list[Job]()
    stopping = False
    with workers, stop_signals() as asked:
        while waiting or running:
            free = len(waiting) if workers.slots is None else workers.slots - len(running)
            begin = [waiting.popleft() for _ in range(min(free, len(waiting)))]
            if begin:
                workers.start(begin)
                running += begin
                for job in begin:
                    tell(job, State("waiting" if workers.slots is None else "running"))
            over = workers.ended(running)
            for job in over:
                running.remove(job)
                state = job.state()
                tell(job, state)
                if stop_on_error and state.name in BAD:
                    _leave_out(waiting)
                    workers.cancel(running)
            if asked and workers.queued:
                return True
            if asked and not stopping:
                stopping = True
                _leave_out(waiting)
                workers.cancel(running)
                for job in running:
                    job.stop()
            if not over and running:
                time.sleep(LOOK)
    return stopping


def _leave_out(waiting: deque[Job]) -> None:
    """Jobs that are not to be started any more."""
    for job in waiting:
        job.note(State("not started"))
    waiting.clear()


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """The stop signals that arrive meanwhile. The second Ctrl-C is the terminal's own."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {each: signal.signal(each, note) for each in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
