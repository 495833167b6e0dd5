"""Jobs as processes of this machine, a few at a time, that share its cores and accelerators."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from gossamer.errors import ConfigError
from gossamer.sweep.jobs import Job, State
from gossamer.sweep.sharing import share
from gossamer.sweep.work import work


class Local:
    """`workers` jobs at a time.

    Args:
        workers: jobs that run at once.
        threads: CPU threads of each; None: the machine's cores, shared equally.
        gpus: accelerators of each worker, by CUDA_VISIBLE_DEVICES; None: every worker sees all.
        environment: variables of every job.
    """

    queued = False

    def __init__(
        self,
        workers: int = 1,
        threads: int | None = None,
        gpus: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"hydra.launcher.workers={workers}: at least 1")
        self.slots: int | None = workers
        self.workers = workers
        self.threads = threads or max(1, len(os.sched_getaffinity(0)) // workers)
        self.gpus = gpus or 0
        told = os.environ.get("CUDA_VISIBLE_DEVICES")
        self.visible = None if told is None else [one for one in told.split(",") if one]
        if self.visible is not None and len(self.visible) < workers * self.gpus:
            raise ConfigError(
                f"hydra.launcher.gpus={gpus}: {workers} workers need {workers * self.gpus}, but "
                f"CUDA_VISIBLE_DEVICES={told}"
            )
        self.environment = environment or {}
        self.pool = ThreadPoolExecutor(workers)
        self.futures: dict[Job, Future[State]] = {}
        self.places: dict[Job, int] = {}  # the worker that has the job

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            place = min({*range(self.workers)} - {*self.places.values()})
            self.places[job] = place
            self.futures[job] = self.pool.submit(work, job, self._environment(place))

    def ended(self, jobs: Sequence[Job]) -> list[Job]:
        over = [job for job in jobs if self.futures[job].done()]
        for job in over:
            del self.places[job]
            self.futures.pop(job).result()  # an error of ours is not to be swallowed
        return over

    def cancel(self, jobs: Sequence[Job]) -> None:
        """There is no queue: what was started runs."""

    def _environment(self, place: int) -> dict[str, str]:
        """What a job of worker `place` (from 0) gets."""
        own = share(self.threads, self.workers - 1, self.environment)
        if self.gpus:
            mine = range(place * self.gpus, (place + 1) * self.gpus)
            names = self.visible or [str(number) for number in range(mine.stop)]
            own["CUDA_VISIBLE_DEVICES"] = ",".join(names[number] for number in mine)
        return own

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()
