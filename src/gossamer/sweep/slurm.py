"""Jobs in a Slurm queue, submitted as one array through submitit.

A job that is preempted, requeued or near its time limit saves its state and goes on in the same run
directory when Slurm starts it again:

    time limit, SIGUSR1, SIGUSR2   the job saves and asks Slurm to requeue it
    scontrol requeue, preemption   Slurm sends SIGTERM, the job saves, Slurm requeues it
    scancel                        SIGTERM as well, but nobody requeues it
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gossamer.errors import ConfigError, StageError
from gossamer.measure.neighbours import UNKNOWN
from gossamer.records.record import write_text
from gossamer.sweep.jobs import Job, State
from gossamer.sweep.sharing import share
from gossamer.sweep.work import work

IDS = "slurm.json"  # in the sweep's folder: job key -> Slurm's id
LOOK = 2.0  # seconds between two looks at the queue, which others share
MISSED = 3  # looks in which a job without a final state is not in the queue: it is lost
AGAIN = {signal.SIGUSR1, signal.SIGUSR2}


@dataclass(frozen=True)
class Attempt:
    """What Slurm runs for one job, the first time and after every requeue."""

    job: Job
    environment: Mapping[str, str]
    most: int  # attempts

    def __call__(self) -> None:
        heard: list[int] = []
        state = work(self.job, self.environment, heard)
        if state.name != "preempted" or not AGAIN & {*heard}:
            return
        if state.attempts >= self.most:
            error = f"stopped {state.attempts} times; hydra.launcher.max_attempts allows no more"
            self.job.note(replace(state, name="failed", error=error))
            return
        array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        name = f"{array}_{index}" if array else os.environ["SLURM_JOB_ID"]
        subprocess.run(["scontrol", "requeue", name], check=True, timeout=60)


@dataclass
class Slurm:
    """A Slurm queue.

    Args:
        options: of sbatch: time (minutes), mem, partition, …; None is left out.
        cpus: of each job.
        most: attempts of one job, the first included.
        environment: variables of every job.
    """

    options: Mapping[str, Any]
    cpus: int = 1
    most: int = 10
    environment: Mapping[str, str] = field(default_factory=dict)

    slots = None
    queued = True

    def __post_init__(self) -> None:
        self.looked = 0.0
        self.missed: dict[str, int] = {}

    def start(self, jobs: Sequence[Job]) -> None:
        if not jobs:  # the last of them ended while they were looked at
            return
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "hydra/launcher=submitit_slurm: there is no sbatch here; log in to a machine of "
                "the cluster, or start a queue of one machine with scripts/slurm_local.sh start"
            )
        from submitit import SlurmExecutor

        logging.getLogger("submitit").setLevel(logging.WARNING)
        folder = Path(jobs[0].cwd, jobs[0].folder)
        ids, there = read_ids(folder), queue()
        jobs = [job for job in jobs if ids.get(job.key) not in there]  # others wait there already
        if not jobs:
            return
        executor = SlurmExecutor(folder / "slurm" / "%j")
        extra = {"requeue": True, **(self.options.get("additional_parameters") or {})}
        options = {name: value for name, value in self.options.items() if value is not None}
        environment = share(self.cpus, UNKNOWN, self.environment)
        try:
            executor.update_parameters(
                **{**options, "cpus_per_task": self.cpus, "additional_parameters": extra}
            )
            attempts = [Attempt(job, environment, self.most) for job in jobs]
            for job in jobs:  # before Slurm can start them
                job.submitted()
            submitted = executor.map_array(Attempt.__call__, attempts)
        except (subprocess.CalledProcessError, RuntimeError, ValueError) as error:
            for job in jobs:
                job.note(State("not started"))
            reason = " ".join(str(getattr(error, "stderr", None) or error).split())
            raise StageError(f"hydra/launcher=submitit_slurm: sbatch refused: {reason}") from error
        ids |= {job.key: each.job_id for job, each in zip(jobs, submitted, strict=True)}
        write_text(folder / IDS, json.dumps(ids, indent=1) + "\n")

    def ended(self, jobs: Sequence[Job]) -> list[Job]:
        if not jobs or time.monotonic() - self.looked < LOOK:
            return []
        self.looked = time.monotonic()
        ids = read_ids(Path(jobs[0].cwd, jobs[0].folder))
        there = queue()
        return [job for job in jobs if self._over(job, ids.get(job.key, ""), there)]

    def _over(self, job: Job, name: str, there: Mapping[str, str]) -> bool:
        """Has the job ended? One that Slurm has requeued has not, whatever it wrote before."""
        if name in there:
            self.missed.pop(name, None)
            return job.state().over and not goes_on(job.state())
        state = job.state()
        if state.over:
            return True
        self.missed[name] = self.missed.get(name, 0) + 1
        if self.missed[name] < MISSED:
            return False
        job.note(lost(state, name))
        return True

    def cancel(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            name = read_ids(Path(job.cwd, job.folder)).get(job.key)
            if name and job.state().name == "waiting":
                subprocess.run(["scancel", "--state=PENDING", name], check=False)
                job.note(State("not started"))

    def __enter__(self) -> Slurm:
        return self

    def __exit__(self, *_: object) -> None:
        """The queue goes on."""


def read_ids(folder: Path) -> dict[str, str]:
    """job key -> Slurm's id, of the jobs of a sweep that were submitted to Slurm; {} if none."""
    path = folder / IDS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def queue() -> dict[str, str]:
    """Slurm's id -> its word for the state, of this user's jobs that are queued or run."""
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--user={getpass.getuser()}"]
    answer = _answer(command)
    if answer is None or answer.returncode:
        reason = "it does not answer" if answer is None else " ".join(answer.stderr.split())
        raise StageError(f"squeue: {reason}; what is in the queue goes on")
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if line.strip())


def goes_on(state: State) -> bool:
    """Has a job with this state, that is in the queue, still something to do? One that saved its
    state is about to be queued again, also while Slurm says that it is completing."""
    return not state.over or state.name == "preempted"


def lost(state: State, name: str) -> State:
    """What became of a job that left the queue without a word: Slurm may know."""
    word = _field(name, "JobState") or "no longer known to Slurm"
    if word == "OUT_OF_MEMORY":
        return replace(state, name="out of memory", error="Slurm: OUT_OF_MEMORY")
    if word == "CANCELLED" and state.name == "waiting":
        return replace(state, name="not started", error="Slurm: CANCELLED")
    if word in ("CANCELLED", "TIMEOUT", "NODE_FAIL", "FAILED"):
        return replace(state, name="killed", error=f"Slurm: {word}")
    return replace(state, name="lost", error=f"Slurm: {word}")


def _answer(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """None where there is no such command, or no answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _field(name: str, key: str) -> str:
    """One field of `scontrol show job`; "" if Slurm has forgotten the job."""
    command = ["scontrol", "--oneliner", "show", "job", name]
    answer = _answer(command)
    if answer is None:
        return ""
    words = (word.partition("=") for word in answer.stdout.split())
    return next((value for found, _, value in words if found == key), "")
