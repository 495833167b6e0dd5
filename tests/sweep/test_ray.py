"""A sweep as tasks of a real Ray that is started for it; on runs that only note their config."""

import json
import os
import signal
import sys

import pytest

from gossamer.errors import ConfigError
from gossamer.sweep.driving import drive
from gossamer.sweep.ray_cluster import Ray
from tests.sweep.conftest import note

pytest.importorskip("ray", reason="Ray is not installed: pip install 'gossamer[ray]'")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def not_in_the_users_terminal(monkeypatch):
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_jobs_end_as_they_do_on_this_machine_each_in_its_own_process(job):
    jobs = [job(end, key=key) for end, key in ((None, "a"), ("1", "b"), ("kill", "c"))]
    drive(jobs, Ray(environment={"SAID": "so"}))
    assert [one.state().name for one in jobs] == ["done", "failed", "killed"]
    seen = [note(one) for one in jobs]
    assert len({each["pid"] for each in seen} | {os.getpid()}) == 4
    assert {each["environment"]["OMP_NUM_THREADS"] for each in seen} == {"1"}
    assert {each["environment"]["GOSSAMER_NEIGHBOURS"] for each in seen} == {"unknown"}
    assert {each["environment"]["SAID"] for each in seen} == {"so"}


def test_asked_to_stop_jobs_save_and_a_task_whose_worker_is_killed_is_lost(job):
    waits, dies = job("wait", key="a"), job("wait", key="b")

    class Asked(Ray):
        """Stops the sweep when both jobs wait, after the worker of one of them was killed."""

        def ended(self, jobs):
            here = [one for one in (waits, dies) if (one.run / "waited").exists()]
            if len(here) == 2 and not self.environment.get("asked"):
                self.environment["asked"] = "yes"
                noted = json.loads((dies.run / "note.json").read_text())
                for pid in (noted["parent"], noted["pid"]):
                    os.kill(pid, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGTERM)
            return super().ended(jobs)

    assert drive([waits, dies], Asked(environment={}))
    assert waits.state().name == "preempted"
    assert dies.state().name == "lost" and dies.state().error.startswith("Ray: ")


def test_without_ray_it_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install 'gossamer\\[ray\\]'"), Ray():
        pass


def test_a_cluster_that_is_not_there_is_one_line():
    with pytest.raises(ConfigError, match=r"hydra.launcher.address=auto: "), Ray(address="auto"):
        pass
