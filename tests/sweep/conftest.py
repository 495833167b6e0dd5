"""Jobs whose runs only note what they were given (tests/cli/standin): each takes a moment."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.cli.frozen import write
from gossamer.sweep.jobs import Job
from tests.cli.conftest import environment

STANDIN = environment()["PYTHONPATH"]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """(how it ends) -> a job of the sweep in tmp_path/sweep, whose run is tmp_path/runs/<key>."""
    monkeypatch.setenv("PYTHONPATH", STANDIN)

    def make(end: str | None = None, key: str = "a", rerun: bool = False) -> Job:
        one = Job("sweep", key, (f"task.metric={end}", f"key={key}"), f"runs/{key}", str(tmp_path))
        write(
            {"directory": one.directory, "task": {"metric": end}, "rerun": rerun}, one.path("yaml")
        )
        return one

    return make


def note(job: Job) -> dict:
    """What the job's process noted of itself."""
    return json.loads((job.run / "note.json").read_text())
