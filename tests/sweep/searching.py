"""Searches whose jobs are over at once: workers that write the record of a run by a rule."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gossamer.cli.check import arguments, examine, of_submission
from gossamer.cli.overrides import parse
from gossamer.cli.search import Proposals, drive
from gossamer.cli.search_settings import Options
from gossamer.cli.space import read
from gossamer.cli.tree import Tree
from gossamer.records.record import write
from gossamer.sweep import jobs as sweeps
from gossamer.sweep.jobs import Job, State
from tests.cli.conftest import TREE
from tests.records.examples import done

Rule = Callable[[dict[str, Any]], dict[str, Any]]
DEFAULTS = {
    "n_trials": 6, "objectives": ["quality"], "sampler": "tpe", "seed": 1, "sampler_options": None,
    "pruner": "none", "prune_on": None, "pruner_options": None, "n_jobs": None, "study_name": None,
    "storage": None, "params": None,
}  # fmt: skip


class Workers:
    """Jobs end when they are looked at; `rule` says how, from the job's configuration.

    It gives {"quality": v}, with "bytes", "curve": [v, …] as what was logged on the way (one value
    for each look), or {"state": "failed", "error": …}."""

    queued = False

    def __init__(self, rule: Rule, slots: int | None = 1, stop_at: int | None = None) -> None:
        self.rule, self.slots = rule, slots
        self.environment: dict[str, str] = {}
        self.started: list[Job] = []
        self.looks: dict[str, int] = {}
        self.stop_at = stop_at  # how many jobs are started before the driver dies
        self.most = 0  # jobs that ran at once

    def start(self, jobs: Sequence[Job]) -> None:
        if self.stop_at is not None and len(self.started) >= self.stop_at:
            raise KeyboardInterrupt
        for job in jobs:
            job.submitted()
            job.note(State("running", attempts=1))
            self.started.append(job)
            self.looks[job.key] = 0

    def ended(self, jobs: Sequence[Job]) -> list[Job]:
        self.most = max(self.most, len(jobs))
        return [job for job in jobs if self._step(job)]

    def _step(self, job: Job) -> bool:
        result = self.rule(config(job))
        curve = result.get("curve", [])
        job.run.mkdir(parents=True, exist_ok=True)
        if job.path("stop").exists():
            job.note(State("preempted", attempts=1))
            return True
        look = self.looks[job.key]
        self.looks[job.key] += 1
        lines = [
            {"step": 10 * n, "validation/accuracy": v} for n, v in enumerate(curve[: look + 1])
        ]
        text = "".join(json.dumps(each) + "\n" for each in [*lines, *lines[-1:]])  # a stage's end
        (job.run / "metrics.jsonl").write_text(text + '{"step": 99, "valid')  # being written
        if look < len(curve):
            return False
        if "state" in result:
            job.note(State(result["state"], result.get("error", "")))
            return True
        write(job.run / "record.json", record(result))
        job.note(State("done", seconds=1.0))
        return True

    def cancel(self, jobs: Sequence[Job]) -> None: ...

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None: ...


def record(result: dict[str, Any]) -> dict[str, Any]:
    made = done(size__checkpoint_bytes=int(result.get("bytes", 1000)))
    made["stages"][0]["quality_after"] = {"accuracy": result["quality"]}
    made["quality"]["compressed"]["accuracy"] = result.get("test", 0.5)
    if result.get("dense"):
        made["stages"] = []
    return made


def config(job: Job) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(job.path("yaml").read_text())


class Searching:
    """A search over the small tree (tests/cli/tree) in `folder`, which may be started again."""

    def __init__(self, folder: Path, *typed: str) -> None:
        self.folder = folder
        self.tree = Tree(str(TREE))
        parsed, problems = parse(typed, self.tree)
        assert problems == []
        app = [each for each in parsed if not of_submission(each)]
        self.space, problems = read(app, {}, self.tree)
        assert problems == []

    def start(
        self, workers: Workers, on_error: str = "continue", retry: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Start, or go on; the outcome."""
        about = {
            "cwd": str(Path.cwd()),
            "snapshot": None,
            "code": "",
            "options": {"on_error": on_error, "retry": retry, "wait": True},
        }
        sweeps.write(self.folder, sweeps.known(self.folder), about, {})
        drive(workers, Proposals(self.space, self.folder), Options(**{**DEFAULTS, **options}))
        return json.loads((self.folder / "search.json").read_text())

    def jobs(self) -> list[Job]:
        return sweeps.known(self.folder)


def problems(*argv: str) -> list[str]:
    """What the check of a command line over the small tree says."""
    words = ["-m", "hydra/sweeper=optuna", "--config-path", str(TREE), *argv]
    return examine(arguments(words)).problems
