"""A sweep in a real Slurm queue: states, requeues, limits; on runs that only note their config."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import TREE, Ended, environment
from tests.cli.test_sweep import folder, states
from tests.sweep.slurm import slurm

pytestmark = [pytest.mark.usefixtures("slurm", "allowed"), pytest.mark.slow]
assert slurm  # a fixture
PATIENCE = 120  # seconds
SLURM = ("hydra/launcher=submitit_slurm", "sweep.snapshot=false")


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setenv("GOSSAMER_ALLOW_TARGETS", "fakes")


@pytest.fixture
def sweep(tmp_path):
    """(words…) -> `gossamer -m words…` in a Slurm queue, still running."""

    def start(*words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "gossamer.cli", "-m", *SLURM, *words]
        return subprocess.Popen(
            [*command, "--config-path", str(TREE)],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def ended(process: subprocess.Popen) -> Ended:
    out, err = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out, err, 0.0)


def until(there, process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)


def waits(root: Path) -> bool:
    """Has the job come to where it waits for a signal?"""
    return any(root.glob("outputs/*/*/seed*/waited"))


def ids(root: Path) -> list[str]:
    return list(json.loads((folder(root) / "slurm.json").read_text()).values())


def attempts(root: Path) -> list[int]:
    return [json.loads(file.read_text())["attempts"] for file in folder(root).glob("jobs/*.json")]


def test_a_sweep_ends_as_it_does_on_this_machine(sweep, tmp_path):
    found = ended(sweep("task.metric='0','1','kill'"))
    assert found.status == 1, found.err
    assert states(found.out) == ["done", "failed", "killed"]
    assert found.out.splitlines()[-1] == "1 done, 1 failed, 1 killed"
    assert len({*ids(tmp_path)}) == 3
    (note,) = [
        json.loads(file.read_text())
        for file in tmp_path.glob("outputs/*/*/seed*/note.json")
        if json.loads(file.read_text())["config"]["task"]["metric"] == "0"
    ]
    assert note["environment"]["OMP_NUM_THREADS"] == "1"
    assert note["environment"]["GOSSAMER_NEIGHBOURS"] == "unknown"
    assert note["argv"][1:] and "-m" not in note["argv"]


def test_a_sweep_can_be_submitted_followed_and_collected(sweep, tmp_path):
    found = ended(sweep("task.metric='slow','1'", "sweep.wait=false"))
    assert found.status == 0 and "gossamer sweep status" in found.out, found.err
    first = ids(tmp_path)
    again = ended(sweep("task.metric='slow','1'", "sweep.wait=false"))
    assert again.status == 0 and ids(tmp_path) == first  # nothing is submitted twice
    command = [sys.executable, "-m", "gossamer.cli", "sweep"]
    looked = subprocess.run(
        [*command, "status", str(folder(tmp_path))], cwd=tmp_path, capture_output=True, text=True
    )
    assert looked.returncode in (1, 3)
    assert {*states(looked.stdout)} <= {"waiting", "running", "done", "skipped", "failed"}
    collected = subprocess.run(
        [*command, "collect", str(folder(tmp_path))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert collected.returncode == 1 and states(collected.stdout)[1] == "failed"
    assert states(collected.stdout)[0] in ("done", "skipped")


@pytest.mark.parametrize(
    "command",
    [["scontrol", "requeue"], ["scancel", "--signal=USR1"], ["scancel", "--signal=USR2"]],
    ids=lambda words: " ".join(words),
)
def test_a_job_that_is_requeued_saves_and_goes_on_in_the_same_directory(sweep, tmp_path, command):
    process = sweep("task.metric=wait", "seed=1")
    until(lambda: waits(tmp_path), process)
    (name,) = ids(tmp_path)
    subprocess.run([*command, name], check=True)
    found = ended(process)
    assert found.status == 0, found.err
    assert states(found.out) == ["done"] and attempts(tmp_path) == [2]
    assert len(list(tmp_path.glob("outputs/*/*/seed1"))) == 1


def test_near_its_time_limit_a_job_saves_and_is_queued_again(sweep, tmp_path):
    process = sweep(
        "task.metric=wait",
        "seed=1",
        "hydra.launcher.timeout_min=1",
        "hydra.launcher.signal_delay_s=55",
    )
    found = ended(process)
    assert found.status == 0, found.err
    assert attempts(tmp_path) == [2]


def test_a_job_is_not_queued_again_for_ever(sweep, tmp_path):
    process = sweep("task.metric=wait", "seed=1", "hydra.launcher.max_attempts=1")
    until(lambda: waits(tmp_path), process)
    subprocess.run(["scancel", "--signal=USR2", *ids(tmp_path)], check=True)
    found = ended(process)
    assert found.status == 1 and "hydra.launcher.max_attempts allows no more" in found.out


def test_a_cancelled_job_saves_and_stays_stopped(sweep, tmp_path):
    process = sweep("task.metric=wait", "seed=1")
    until(lambda: waits(tmp_path), process)
    subprocess.run(["scancel", *ids(tmp_path)], check=True)
    found = ended(process)
    assert found.status == 3, found.out + found.err
    assert states(found.out) == ["preempted"] and attempts(tmp_path) == [1]
    again = ended(sweep("task.metric=wait", "seed=1"))
    assert again.status == 0 and states(again.out) == ["done"]


def test_a_job_that_vanishes_is_said_to_be_lost_or_killed(sweep, tmp_path):
    process = sweep("task.metric=wait", "seed=1")
    until(lambda: waits(tmp_path), process)
    (file,) = tmp_path.glob("outputs/*/*/seed1/note.json")
    note = json.loads(file.read_text())
    for pid in (note["parent"], note["pid"]):  # nobody is left who could say what happened
        os.kill(pid, signal.SIGKILL)
    found = ended(process)
    assert found.status == 1
    assert states(found.out)[0] in ("killed", "lost") and "Slurm: " in found.out


def test_jobs_stay_in_the_queue_when_the_one_who_waits_for_them_is_stopped(sweep, tmp_path):
    process = sweep("task.metric=wait", "seed=1")
    until(lambda: waits(tmp_path), process)
    process.send_signal(signal.SIGTERM)
    found = ended(process)
    assert found.status == 3 and "1 running" in found.out
    subprocess.run(["scancel", *ids(tmp_path)], check=True)


def test_without_slurm_it_is_one_line(tmp_path, sweep, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    found = ended(sweep("seed=1,2"))
    assert found.status == 2 and "there is no sbatch here" in found.err
    assert "Traceback" not in found.err
