"""Jobs as tasks of a Ray cluster, or of a Ray that is started on this machine for the sweep."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gossamer.errors import ConfigError
from gossamer.measure.neighbours import UNKNOWN
from gossamer.sweep.jobs import Job, State
from gossamer.sweep.sharing import share
from gossamer.sweep.work import work


@dataclass
class Ray:
    """A Ray cluster whose machines share this one's file system.

    Args:
        address: of a running cluster, "auto" for the one of this machine; None: start one here.
        cpus, gpus: that Ray reserves for each job.
        environment: variables of every job.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 0
    environment: Mapping[str, str] = field(default_factory=dict)

    slots = None
    queued = False

    def __enter__(self) -> Ray:
        try:
            import ray as found
        except ImportError as error:
            raise ConfigError(
                "hydra/launcher=ray: Ray is not installed; type: pip install 'gossamer[ray]'"
            ) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.ray: Any = found
        ray = self.ray
        self.started = not ray.is_initialized()
        if self.started:
            try:
                ray.init(
                    address=self.address,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                raise ConfigError(f"hydra.launcher.address={self.address}: {reason}") from error
        if self.address is None:  # another cluster may grow
            has = ray.cluster_resources()
            for name, wanted in (("CPU", self.cpus), ("GPU", self.gpus)):
                if wanted > has.get(name, 0):
                    self.__exit__()
                    raise ConfigError(
                        f"hydra.launcher.{name.lower()}s={wanted:g}: this machine has "
                        f"{has.get(name, 0):g}"
                    )
        # max_retries: a job that died is told as it is; the sweep started again goes on with it
        self.task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)(work)
        self.references: dict[Job, Any] = {}
        return self

    def start(self, jobs: Sequence[Job]) -> None:
        environment = share(max(1, int(self.cpus)), UNKNOWN, self.environment)
        for job in jobs:
            self.references[job] = self.task.remote(job, environment)

    def ended(self, jobs: Sequence[Job]) -> list[Job]:
        if not jobs:
            return []
        mine = {self.references[job]: job for job in jobs}
        ready, _ = self.ray.wait(list(mine), num_returns=len(mine), timeout=0)
        for reference in ready:
            self._settle(mine[reference], reference)
        return [mine[reference] for reference in ready]

    def _settle(self, job: Job, reference: Any) -> None:
        """Note what Ray knows of a job that could not note it itself."""
        try:
            self.ray.get(reference)
        except self.ray.exceptions.TaskCancelledError:
            if not job.state().over:
                job.note(State("not started"))
        except self.ray.exceptions.RayError as error:
            state = job.state()
            if not state.over:
                reason = str(error).strip().splitlines()[0]
                job.note(replace(state, name="lost", error=f"Ray: {reason}"))

    def cancel(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.state().name == "waiting":
                self.ray.cancel(self.references[job])

    def __exit__(self, *_: object) -> None:
        if self.started:
            self.ray.shutdown()
