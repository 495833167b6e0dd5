"""The same jobs on this machine, through Slurm and through Ray give the same records; also one that
Slurm interrupted."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.runs.commands import DOCSTRINGS, Ended, figures, start, wait, weights_digest
from tests.sweep import slurm as available

METHODS = ("none", "lora", "magnitude", "dsee")
SLURM = "hydra/launcher=submitit_slurm"


def same(one: Path, other: Path) -> None:
    """The same digests, figures and weights; one was made by a sweep and the other was not."""
    assert weights_digest(one) == weights_digest(other)
    mine, others = figures(one), figures(other)
    assert mine.pop("sweep") is not None and others.pop("sweep") is None
    assert mine == others


def directory(cwd: Path, method: str) -> Path:
    (found,) = (cwd / "outputs").glob(f"*-{method}/*/seed1")
    return found


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """(words…) -> `gossamer -m words…`, running; skips the test if it needs a Slurm that is not."""

    def begin(*words: str) -> subprocess.Popen:
        if SLURM in words:
            if reason := available.missing():
                pytest.skip(reason)
            for name, value in available.environment().items():
                monkeypatch.setenv(name, value)
        return start("-m", *DOCSTRINGS, *words, cwd=tmp_path)

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_slurm", "ray", "local"])
def test_every_launcher_makes_the_record_that_a_single_run_makes(
    launcher, finished, sweep, tmp_path
):
    workers = ["hydra.launcher.workers=2"] if launcher == "local" else []
    words = [f"compression={','.join(METHODS)}", f"hydra/launcher={launcher}", *workers]
    ended = wait(sweep(*words))
    assert ended.status == 0, ended.out + ended.err
    for method in METHODS:
        same(directory(tmp_path, method), finished(f"compression={method}").directory)


@pytest.mark.slow
def test_a_run_that_slurm_requeued_ends_as_if_nothing_had_happened(finished, sweep, tmp_path):
    process = sweep("compression=dsee", SLURM)
    while not list((tmp_path / "outputs").glob("*/*/seed1/state/*.checkpoint.pt")):
        assert process.poll() is None, process.communicate()
    (ids,) = (tmp_path / "outputs" / "sweeps").glob("*/slurm.json")
    (name,) = json.loads(ids.read_text()).values()
    subprocess.run(["scontrol", "requeue", name], check=True)
    ended: Ended = wait(process)
    assert ended.status == 0, ended.out + ended.err
    (state,) = ids.parent.glob("jobs/*.json")
    assert json.loads(state.read_text())["attempts"] == 2
    same(directory(tmp_path, "dsee"), finished("compression=dsee").directory)
