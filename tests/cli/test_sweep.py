"""gossamer -m: what a sweep started again does, how it stops, and what it tells; on runs that only
note their config (standin/)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import TREE, environment
from tests.cli.test_door import notes, notes_or_nothing


def rows(text: str) -> list[list[str]]:
    """The cells of the end table."""
    return [line.split() for line in text.splitlines() if line.startswith("#")]


def states(text: str) -> list[str]:
    return [row[1] for row in rows(text)]


def folder(root: Path) -> Path:
    (found,) = (root / "outputs" / "sweeps").iterdir()
    return found


def test_started_again_a_sweep_skips_what_is_done_and_goes_on_with_what_was_cut(gossamer, tmp_path):
    sweep = ("-m", "seed=1,2", "task.metric='0','3','kill'")
    first = gossamer(*sweep)
    assert first.status == 1
    assert states(first.out) == ["done", "preempted", "killed"] * 2
    assert len(notes(tmp_path)) == 6
    again = gossamer(*sweep)
    assert states(again.out) == ["skipped", "preempted", "killed"] * 2
    assert "4 of 6 jobs to run" in again.out
    attempts = {
        json.loads(file.read_text())["attempts"] for file in folder(tmp_path).glob("jobs/*.json")
    }
    assert attempts == {1}  # a start counts its own


def test_what_failed_is_tried_again_only_if_asked(gossamer, tmp_path):
    sweep = ("-m", "task.metric='1','memory','0'")
    first = gossamer(*sweep)
    assert [row[1] for row in rows(first.out)] == ["failed", "out", "done"]
    again = gossamer(*sweep)
    assert again.status == 1 and "0 of 3 jobs to run" in again.out
    assert "as told (sweep.retry=true tries it again)" in again.out
    retried = gossamer(*sweep, "sweep.retry=true")
    assert "2 of 3 jobs to run" in retried.out
    assert len(list((tmp_path / "outputs" / "sweeps").iterdir())) == 1  # the same sweep


def test_a_sweep_ends_with_each_jobs_state_and_one_line_on_why(gossamer):
    ended = gossamer("-m", "task.metric='0','1','memory','kill','bug'")
    why = [line.split("seed1")[1].strip() for line in ended.out.splitlines() if line[:1] == "#"]
    assert why == [
        "",
        "as told",
        "out of memory: as told",
        "SIGKILL",
        "RuntimeError: a bug, not a user's mistake",
    ]
    assert ended.out.splitlines()[-1] == "1 done, 2 failed, 1 killed, 1 out of memory"


def test_told_so_a_sweep_starts_no_job_after_one_that_failed(gossamer, tmp_path):
    ended = gossamer("-m", "task.metric='0','1','2',null", "sweep.on_error=stop")
    assert ended.status == 1
    assert "not started" in ended.out and len(notes(tmp_path)) == 2


def test_two_jobs_that_are_one_run_run_once(gossamer, tmp_path):
    ended = gossamer("-m", "trainer.lr=1e-3,0.001", "hydra.launcher.workers=2")
    assert ended.status == 0 and len(notes(tmp_path)) == 1


def test_jobs_run_the_code_that_was_submitted(gossamer, tmp_path):
    assert gossamer("-m", "seed=1,2").status == 0
    (copy,) = (folder(tmp_path) / "code").iterdir()
    assert {note["code"] for note in notes(tmp_path)} == {str(copy / "gossamer" / "__init__.py")}
    assert json.loads((copy / "submitted.json").read_text()).keys() == {"commit", "dirty"}
    manifest = json.loads((folder(tmp_path) / "sweep.json").read_text())
    assert manifest["code"].startswith(copy.name)
    plain = gossamer("-m", "seed=3,4", "sweep.snapshot=false")
    assert plain.status == 0
    assert len({note["code"] for note in notes(tmp_path)}) == 2


def test_without_a_copy_a_job_says_that_the_code_changed(gossamer, tmp_path, monkeypatch):
    assert gossamer("-m", "seed=1,2", "sweep.snapshot=false").status == 0
    (log, *_) = folder(tmp_path).glob("jobs/*.log")
    assert "code has changed" not in log.read_text()
    command = [sys.executable, "-m", "gossamer.cli.job", str(log.with_suffix(".yaml"))]
    changed = {**environment(), "GOSSAMER_SUBMITTED": "of other code"}
    ran = subprocess.run(command, cwd=tmp_path, env=changed, capture_output=True, text=True)
    assert ran.returncode == 0 and "the code has changed since" in ran.stderr


def test_a_job_knows_the_sweep_it_is_of(gossamer, tmp_path):
    assert gossamer("-m", "seed=1,2").status == 0
    assert {note["config"]["sweep"] for note in notes(tmp_path)} == {folder(tmp_path).name}
    digests = {note["config"]["digest"] for note in notes(tmp_path)}
    assert gossamer("seed=1").status == 0
    assert {note["config"]["digest"] for note in notes(tmp_path)} == digests


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sweep.on_eror=stop"], "sweep.on_eror=stop: no such key, did you mean sweep.on_error?"),
        (["sweep.on_error=halt"], "sweep.on_error=halt: accepted: continue or stop"),
        (["sweep.retry=1"], "sweep.retry=1: accepted: true or false"),
        (["sweep.retry=true,false"], "is of the sweep itself and cannot be swept"),
        (["hydra/launcher=basic", "sweep.wait=false"], "sweep.wait=false: only with"),
        (["hydra/launcher=basic", "sweep.on_error=stop"], "does not stop; use local"),
        (["hydra.sweeper.max_batch_size=2"], "a sweep is no batches here"),
        (["sweep.wait=false"], "sweep.wait=false: only with hydra/launcher=submitit_slurm"),
        (["hydra.launcher.workers=0"], "hydra.launcher.workers=0: at least 1"),
        (["hydra.launcher.wrkers=2"], "hydra.launcher.wrkers=2"),
    ],
)
def test_a_wrong_setting_of_a_sweep_is_one_line_and_starts_no_job(gossamer, tmp_path, words, line):
    ended = gossamer("-m", "seed=1,2", *words)
    assert ended.status == 2 and line in ended.err
    assert "Traceback" not in ended.err and notes(tmp_path) == []


def start(tmp_path: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "gossamer.cli", "-m", "--config-path", str(TREE), *words]
    return subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    )


def until(there) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_sweep_runs_once_at_a_time_and_can_be_watched(gossamer, tmp_path):
    sweep = start(tmp_path, "task.metric=wait", "seed=1,2")
    until(lambda: notes_or_nothing(tmp_path))
    second = gossamer("-m", "task.metric=wait", "seed=1,2")
    assert second.status == 1 and "another process runs this sweep" in second.err
    status = gossamer("sweep", "status", str(folder(tmp_path)), tree=None)
    assert states(status.out) == ["running", "waiting"] and status.status == 3
    sweep.send_signal(signal.SIGTERM)
    out, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 3
    assert "1 not started, 1 preempted" in out


def test_a_sweep_that_is_killed_leaves_no_job_behind_and_goes_on_when_started_again(
    gossamer, tmp_path
):
    words = ("task.metric=wait", "seed=1,2,3", "hydra.launcher.workers=2")
    sweep = start(tmp_path, *words)
    until(lambda: len(notes_or_nothing(tmp_path)) == 2)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()

    def stopped() -> bool:
        found = [file for file in tmp_path.glob("outputs/*/*/seed*/record.json")]
        return len(found) == 2

    until(stopped)
    status = gossamer("sweep", "status", str(folder(tmp_path)), tree=None)
    assert states(status.out) == ["preempted", "preempted", "not"]
    third = start(tmp_path, *words)  # the third job has not waited yet
    until(lambda: len(notes_or_nothing(tmp_path)) == 3)
    third.send_signal(signal.SIGTERM)
    out, _ = third.communicate(timeout=60)
    assert sorted(states(out)) == ["done", "done", "preempted"]


def test_collect_says_what_became_of_the_sweep_and_compares_its_runs(gossamer, tmp_path):
    assert gossamer("-m", "task.metric='0','1'").status == 1
    ended = gossamer("sweep", "collect", str(folder(tmp_path)), tree=None)
    assert ended.status == 1 and states(ended.out) == ["done", "failed"]
    assert "left out" in ended.out  # the standin's records are no records


@pytest.mark.parametrize("what", ["status", "collect"])
def test_a_folder_without_a_sweep_is_one_line(gossamer, what):
    ended = gossamer("sweep", what, "nowhere", tree=None)
    assert ended.status == 2 and "DIR=nowhere: no sweep there" in ended.err


def test_another_launcher_runs_jobs_as_processes_too(gossamer, tmp_path):
    ended = gossamer("-m", "seed=1,2", "hydra/launcher=basic")
    assert ended.status == 0 and states(ended.out) == ["done", "done"]
    found = notes(tmp_path)
    assert len({note["pid"] for note in found}) == 2
    assert not any("-m" in note["argv"] for note in found)


def test_an_experiment_can_be_a_sweep_whose_axes_the_command_line_overrides(gossamer, tmp_path):
    ended = gossamer("-m", "experiment=seeds")
    assert ended.status == 0 and states(ended.out) == ["done"] * 4
    seen = {(*note["config"]["compression"], note["config"]["seed"]) for note in notes(tmp_path)}
    assert seen == {(1,), (2,), ("prune", 1), ("prune", 2)}
    fewer = gossamer("-m", "experiment=seeds", "seed=2", "compression=prune")
    assert states(fewer.out) == ["skipped"]


def test_a_job_that_failed_is_another_one_when_the_file_that_it_chose_has_changed(
    gossamer, tmp_path
):
    tree = tmp_path / "tree"
    shutil.copytree(TREE, tree)
    file = tree / "experiment" / "seeds.yaml"
    file.write_text(file.read_text() + 'task:\n  metric: "1"\n')
    assert gossamer("-m", "experiment=seeds", tree=tree).status == 1
    file.write_text(file.read_text().replace('"1"', '"0"'))
    ended = gossamer("-m", "experiment=seeds", tree=tree)
    assert ended.status == 0 and states(ended.out) == ["done"] * 4
    assert len(list((tmp_path / "outputs" / "sweeps").iterdir())) == 1


def test_a_folder_may_have_any_name(gossamer, tmp_path):
    ended = gossamer("-m", "seed=1,2", "hydra.sweep.dir='größe here'")
    assert ended.status == 0, ended.err
    assert (tmp_path / "größe here" / "sweep.json").is_file()


def test_away_from_its_slurm_a_sweep_can_still_be_looked_at(gossamer, tmp_path, monkeypatch):
    assert gossamer("-m", "task.metric='0','3'").status == 3
    jobs = json.loads((folder(tmp_path) / "sweep.json").read_text())["jobs"]
    names = {one["key"]: str(number) for number, one in enumerate(jobs)}
    (folder(tmp_path) / "slurm.json").write_text(json.dumps(names))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    status = gossamer("sweep", "status", str(folder(tmp_path)), tree=None)
    assert status.status == 3 and states(status.out) == ["done", "preempted"]
