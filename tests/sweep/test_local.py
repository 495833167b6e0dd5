"""Jobs that share this machine: how many at once, and how many threads each may use."""

import os

import pytest

from gossamer.errors import ConfigError
from gossamer.sweep.driving import drive
from gossamer.sweep.local import Local
from gossamer.sweep.sharing import THREADS
from tests.sweep.conftest import note

CORES = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def no_threads_set(monkeypatch):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)


def test_workers_share_the_cores_and_know_of_each_other(job):
    jobs = [job("slow", key=key) for key in "abc"]
    drive(jobs, Local(workers=2))
    notes = [note(one) for one in jobs]
    assert {each["environment"]["OMP_NUM_THREADS"] for each in notes} == {str(max(1, CORES // 2))}
    assert {each["environment"]["GOSSAMER_NEIGHBOURS"] for each in notes} == {"1"}
    times = [(each["began"], 1) for each in notes] + [(each["ended"], -1) for each in notes]
    running, most = 0, 0
    for _, change in sorted(times):
        running += change
        most = max(most, running)
    assert most == 2  # never three, and not one after another


def test_one_worker_has_all_cores_and_no_neighbour(job):
    one = job()
    drive([one], Local())
    assert note(one)["environment"]["OMP_NUM_THREADS"] == str(CORES)
    assert note(one)["environment"]["GOSSAMER_NEIGHBOURS"] == "0"


def test_a_number_of_threads_that_the_user_set_stays(job, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    one = job()
    drive([one], Local(workers=2, threads=3, environment={"MKL_NUM_THREADS": "5"}))
    seen = note(one)["environment"]
    assert [seen[name] for name in THREADS] == ["7", "5", "3", "3"]


def test_each_worker_has_accelerators_of_its_own(job):
    jobs = [job("slow", key=key) for key in "ab"]
    drive(jobs, Local(workers=2, gpus=2))
    assert sorted(note(one)["environment"]["CUDA_VISIBLE_DEVICES"] for one in jobs) == [
        "0,1",
        "2,3",
    ]


def test_there_is_no_sweep_without_a_worker():
    with pytest.raises(ConfigError, match="workers=0: at least 1"):
        Local(workers=0)


def test_accelerators_are_taken_from_those_that_this_process_may_use(job, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-b")
    jobs = [job("slow", key=key) for key in "ab"]
    drive(jobs, Local(workers=2, gpus=1))
    seen = sorted(note(one)["environment"]["CUDA_VISIBLE_DEVICES"] for one in jobs)
    assert seen == ["4", "GPU-b"]
    with pytest.raises(ConfigError, match="gpus=2: 2 workers need 4, but CUDA_VISIBLE_DEVICES=4"):
        Local(workers=2, gpus=2)
