"""Starting jobs, seeing them end, and stopping, with workers that only pretend."""

import os
import signal
from dataclasses import dataclass, field

import pytest

from gossamer.errors import ConfigError
from gossamer.sweep.driving import drive
from gossamer.sweep.jobs import Job, State
from gossamer.sweep.slurm import Slurm


@dataclass
class Pretend:
    """Workers whose jobs end at the next look, in the state that their override names."""

    slots: int | None = 2
    queued: bool = False
    environment: dict = field(default_factory=dict)
    ends: bool = True
    most: int = 0
    started: list = field(default_factory=list)
    cancelled: list = field(default_factory=list)
    running: list = field(default_factory=list)
    asks: int = 0  # a signal to send at the first look

    def start(self, jobs):
        self.started += jobs
        self.running += jobs
        self.most = max(self.most, len(self.running))
        for job in jobs:
            job.note(State("running"))

    def ended(self, jobs):
        if self.asks:
            os.kill(os.getpid(), self.asks)
            self.asks = 0
            return []
        stopped = [job for job in jobs if job.path("stop").exists()]
        for job in stopped:
            job.note(State("preempted"))
        over = stopped or (jobs[:1] if self.ends else [])
        for job in over:
            self.running.remove(job)
            if job not in stopped:
                job.note(State(job.overrides[0]))
        return over

    def cancel(self, jobs):
        self.cancelled += jobs

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def jobs(tmp_path):
    def make(*ends: str) -> list[Job]:
        (tmp_path / "sweep" / "jobs").mkdir(parents=True, exist_ok=True)
        return [
            Job("sweep", f"k{place}", (end,), f"runs/{place}", str(tmp_path))
            for place, end in enumerate(ends)
        ]

    return make


def names(jobs) -> list[str]:
    return [job.state().name for job in jobs]


def test_no_more_jobs_run_at_once_than_there_are_slots(jobs):
    workers, told = Pretend(slots=2), []
    all_jobs = jobs("done", "failed", "done", "done", "done")
    stopped = drive(all_jobs, workers, tell=lambda job, state: told.append((job.key, state.name)))
    assert not stopped and workers.most == 2
    assert names(all_jobs) == ["done", "failed", "done", "done", "done"]
    assert told[:3] == [("k0", "running"), ("k1", "running"), ("k0", "done")]
    assert len(told) == 2 * len(all_jobs)


def test_a_queue_gets_all_jobs_at_once(jobs):
    workers = Pretend(slots=None)
    drive(jobs("done", "done", "done"), workers)
    assert workers.most == 3


def test_told_so_no_job_is_started_after_one_that_failed(jobs):
    workers = Pretend(slots=1)
    all_jobs = jobs("done", "out of memory", "done", "done")
    drive(all_jobs, workers, stop_on_error=True)
    assert names(all_jobs) == ["done", "out of memory", "not started", "not started"]
    assert len(workers.started) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_running_jobs_save_and_the_others_are_not_started(jobs, number):
    before = signal.getsignal(number)
    workers = Pretend(slots=2, asks=number)
    all_jobs = jobs("done", "done", "done")
    assert drive(all_jobs, workers)
    assert names(all_jobs) == ["preempted", "preempted", "not started"]
    assert signal.getsignal(number) is before


def test_a_queue_keeps_its_jobs_when_the_one_who_waits_is_stopped(jobs):
    workers = Pretend(slots=None, queued=True, ends=False, asks=signal.SIGTERM)
    all_jobs = jobs("done", "done")
    assert drive(all_jobs, workers)
    assert names(all_jobs) == ["running", "running"]
    assert workers.cancelled == [] and not any(job.path("stop").exists() for job in all_jobs)


def test_a_queue_that_is_given_nothing_submits_nothing(tmp_path, monkeypatch):
    """As when the last job of a sweep ends while the sweep is started again."""
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch could be found
    Slurm({}).start([])
    job = Job(str(tmp_path), "key", (), str(tmp_path / "run"), str(tmp_path))
    with pytest.raises(ConfigError, match="there is no sbatch"):
        Slurm({}).start([job])
