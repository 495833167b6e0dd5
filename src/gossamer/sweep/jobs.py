"""A sweep on disk: a folder with its manifest, and for every job its config, state and log.

sweep.json        what was submitted: jobs in order, code, launcher
jobs/<key>.yaml   the resolved config, written at submission; the key has its digest
jobs/<key>.json   the job's state, written by whoever runs it
jobs/<key>.log    what its process printed
jobs/<key>.stop   its presence asks the job to save its state and stop, wherever it runs
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gossamer.errors import ConfigError, ResumeError
from gossamer.records.record import write_text

MANIFEST = "sweep.json"
STATES = ("schema", "jobs", "settled")  # in it, beside what is known of the submission
CLOCKS = 1.0  # seconds by which a file server's clock may differ
LOCK = "lock"  # held by the process that drives the sweep

Name = Literal[
    "waiting",  # submitted, not begun
    "running",
    "done",
    "skipped",  # done before this start of the sweep
    "failed",
    "out of memory",
    "misconfigured",
    "preempted",  # saved its state and can go on
    "pruned",  # a search gave it up, with its state saved
    "killed",  # ended without saving
    "lost",  # begun or submitted, but nobody runs it any more
    "not started",  # the sweep was stopped before
]
GOOD = frozenset({"done", "skipped", "pruned"})
BAD = frozenset({"failed", "out of memory", "misconfigured", "killed", "lost"})


@dataclass(frozen=True)
class State:
    """What is known of one job. Times in seconds since 1970, `seconds` in this attempt."""

    name: Name
    error: str = ""
    seconds: float = 0.0
    finished: float = 0.0
    host: str = ""
    pid: int = 0  # of its process there
    attempts: int = 0

    @property
    def over(self) -> bool:
        """Nobody works on the job, and it will not go on by itself."""
        return self.name not in ("waiting", "running")


@dataclass(frozen=True)
class Job:
    """One job of the sweep in `folder`. Paths are absolute, or relative to `cwd`."""

    folder: str
    key: str
    overrides: tuple[str, ...]
    directory: str  # of its run
    cwd: str  # where the sweep was started

    def path(self, suffix: str) -> Path:
        return Path(self.cwd, self.folder, "jobs", f"{self.key}.{suffix}")

    @property
    def run(self) -> Path:
        return Path(self.cwd, self.directory)

    @property
    def title(self) -> str:
        return " ".join(self.overrides)

    def state(self) -> State:
        """The state that was written last; "not started" if there is none."""
        try:
            return State(**json.loads(self.path("json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return State("not started")
        except (ValueError, TypeError) as error:
            raise ResumeError(f"{self.path('json')}: damaged; delete it") from error

    def note(self, state: State) -> State:
        """Write `state`, whole or not at all."""
        write_text(self.path("json"), json.dumps(asdict(state)) + "\n")
        return state

    def submitted(self) -> State:
        """The job is submitted anew: an earlier wish to stop it goes, its log stays."""
        self.path("stop").unlink(missing_ok=True)
        return self.note(State("waiting"))

    def stop(self) -> None:
        """Ask the job to save its state and stop; it ends as preempted."""
        self.path("stop").touch()

    def recorded(self, since: float = 0.0) -> dict[str, Any]:
        """Its run's record, enough of it to know how the run ended; {} if there is none that was
        written `since` a time (seconds since 1970)."""
        path = self.run / "record.json"
        try:
            if path.stat().st_mtime < since - CLOCKS:
                return {}
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


def write(
    folder: Path, jobs: Sequence[Job], about: Mapping[str, Any], states: Mapping[str, State]
) -> None:
    """Write the manifest: the jobs in order, what is known `about` the submission, and the states
    of the jobs that are not run this time."""
    content = {
        "schema": 1,
        **about,
        "jobs": [
            {"key": job.key, "overrides": job.overrides, "directory": job.directory} for job in jobs
        ],
        "settled": {key: asdict(state) for key, state in states.items()},
    }
    write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def known(folder: Path) -> list[Job]:
    """The jobs of an earlier start of the sweep in `folder`; [] if this is the first."""
    return of(folder, read(folder)) if (folder / MANIFEST).exists() else []


def add(folder: Path, job: Job, settled: State | None) -> None:
    """Add a job that a search has asked for to the manifest, with its state if it is not to run."""
    manifest = read(folder)
    states = {key: State(**state) for key, state in manifest["settled"].items()}
    states.pop(job.key, None)
    if settled is not None:
        states[job.key] = settled
    jobs = {each.key: each for each in [*of(folder, manifest), job]}
    write(
        folder, list(jobs.values()), {k: v for k, v in manifest.items() if k not in STATES}, states
    )


def read(folder: Path) -> dict[str, Any]:
    """The manifest of the sweep in `folder`. Raises ConfigError if there is none."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"DIR={folder}: no sweep there (no {MANIFEST}); gossamer -m prints its folder, "
            "outputs/sweeps/<digest>"
        ) from error
    except ValueError as error:
        raise ResumeError(f"{folder / MANIFEST}: damaged ({error})") from error


def of(folder: Path, manifest: Mapping[str, Any]) -> list[Job]:
    """The jobs of a manifest, in order."""
    place = os.path.abspath(folder)
    cwd = manifest["cwd"]
    return [
        Job(place, one["key"], tuple(one["overrides"]), one["directory"], cwd)
        for one in manifest["jobs"]
    ]


def states(jobs: Sequence[Job], manifest: Mapping[str, Any]) -> Iterator[State]:
    """The state of each job: what was settled at submission, else what was written since."""
    for job in jobs:
        settled = manifest["settled"].get(job.key)
        yield State(**settled) if settled else job.state()


def settle(job: Job, *, retry: bool, rerun: bool) -> State | None:
    """What a job is before it is submitted, if it needs not run: done, or failed before and not to
    be tried again."""
    if rerun:
        return None
    if job.recorded().get("status") == "done":
        return State("skipped")
    before = job.state()
    if retry or before.name not in ("failed", "out of memory", "misconfigured"):
        return None
    return replace(before, error=f"{before.error} (sweep.retry=true tries it again)")
