"""gossamer -m hydra/sweeper=optuna …: what was typed, checked, and handed to the search."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from gossamer.cli import sweep
from gossamer.cli.check import examine_job, of_submission
from gossamer.cli.freeze import freeze
from gossamer.cli.overrides import parse
from gossamer.cli.search_settings import SWEEPER, Options, aims_of, watched
from gossamer.cli.space import Space, read
from gossamer.cli.tree import conf_dir, opened
from gossamer.cli.values import show
from gossamer.errors import ConfigError, ResumeError
from gossamer.records.locks import alone
from gossamer.sweep import jobs as sweeps
from gossamer.sweep import objectives, outcome
from gossamer.sweep.foresight import foresee
from gossamer.sweep.jobs import Job
from gossamer.sweep.objectives import Objective

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

    from gossamer.sweep.driving import Workers

LAUNCHERS = "local, submitit_slurm or ray"


@dataclass
class Proposals:
    """Turns what Optuna draws into jobs of the sweep in `folder`."""

    space: Space
    folder: Path
    hydra: Sequence[str] = ()  # Hydra's own overrides

    def propose(self, trial: Trial) -> Job:
        chosen = {each.key: _suggest(each, trial) for each in self.space.choosing}
        present = self.space.present(chosen)
        values = {
            each.key: chosen[each.key] if each.key in chosen else _suggest(each, trial)
            for each in present
        }
        return self.job(self.space.written(present, values))

    def job(self, texts: Sequence[str]) -> Job:
        return sweep.freeze_job(self.frozen(texts), texts, self.folder)

    def frozen(self, texts: Sequence[str]) -> dict[str, Any]:
        """The resolved config of a job. Raises ConfigError with what is wrong with it."""
        parsed, broken = parse([*self.hydra, *texts], self.space.tree)
        job = examine_job(parsed, self.space.tree)
        job.overrides = list(texts)
        if broken or job.problems:
            raise ConfigError(*broken, *job.problems)
        return freeze(job)

    def grid(self) -> Iterator[dict[str, Any]]:
        return self.space.values()


def _suggest(parameter: Any, trial: Trial) -> str:
    try:
        return parameter.suggest(trial)
    except ValueError as error:
        raise ResumeError(
            f"{parameter.key}: the study has it with other values ({error}); give another "
            f"{SWEEPER}.study_name"
        ) from error


def search(launcher: Any, config: DictConfig, arguments: Sequence[str], options: Options) -> None:
    """What the sweeper does when Hydra calls it: search, and leave the outcome in the folder."""
    sweep.entered.append(True)
    if not hasattr(launcher, "workers"):
        name = config.hydra.runtime.choices.get("hydra/launcher")
        raise ConfigError(f"hydra/launcher={name}: a search runs its jobs with {LAUNCHERS}")
    folder = Path(config.hydra.sweep.dir)
    tree = opened(config.hydra)
    hydra = [each for each in config.hydra.overrides.hydra if each.startswith("hydra.searchpath=")]
    overrides, _ = parse(arguments, tree)
    app = [each for each in overrides if not of_submission(each)]
    space, _ = read(app, options.params or {}, tree)
    drive(launcher.workers(), Proposals(space, folder, hydra), options)


def drive(workers: Workers, proposals: Proposals, options: Options) -> None:
    """Search with these workers; goes on with the study that is there."""
    from gossamer.sweep import study as studies
    from gossamer.sweep.search import Search

    folder, manifest = proposals.folder, sweeps.read(proposals.folder)
    slots = _slots(workers, options)
    workers.environment = {**workers.environment, **sweep.which_code(manifest)}
    file = Path(options.storage) if options.storage else folder / studies.FILE
    busy = ResumeError(f"{file}: another search works with this study")
    with alone(file.with_name(f"{file.name}.driver"), busy):
        study, aims = _study(file, proposals, options, workers)
        study.pruner = studies.pruner(options.pruner, options.pruner_options or {})
        studies.sampler(options.sampler, options.seed, 0, options.sampler_options or {})
        if manifest["options"]["retry"]:
            studies.repeat_failed(study)
        done = len(studies.trials(study)) - len(studies.unfinished(study))
        _say(f"study {file}: {done} of {options.n_trials} trials have ended")
        for each in proposals.space.left_out():
            _say(each)
        if slots > 1 and any(each.name.startswith("speed.") for each in aims):
            _say(f"latency is measured beside {slots - 1} other jobs; with one worker it is clean")
        run = Search(
            study, proposals, workers, aims, folder, options.n_trials, slots, _say,
            sampler=options.sampler,
            seed=options.seed,
            options=options.sampler_options or {},
            watched=watched(options, aims),
            prune=options.pruner != "none",
            stop_on_error=manifest["options"]["on_error"] == "stop",
        )  # fmt: skip
        run.run()
        primary = study.user_attrs[studies.ABOUT]["primary"]
        outcome.write(
            folder, outcome.told(study, aims, primary, manifest["cwd"], _command(proposals))
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _slots(workers: Workers, options: Options) -> int:
    if workers.slots is None and options.n_jobs is None:
        raise ConfigError(
            f"{SWEEPER}.n_jobs=null: a queue takes any number of jobs; say how many trials are "
            f"under way at once, for example {SWEEPER}.n_jobs=4"
        )
    if workers.slots is not None and options.n_jobs is not None and options.n_jobs > workers.slots:
        raise ConfigError(
            f"{SWEEPER}.n_jobs={options.n_jobs}: the launcher runs {workers.slots} at once; "
            f"give it more with hydra.launcher.workers={options.n_jobs}"
        )
    return options.n_jobs or workers.slots or 1


def _study(
    file: Path, proposals: Proposals, options: Options, workers: Workers
) -> tuple[Study, list[Objective]]:
    """The study in `file`, begun if it is not there, and its objectives with their directions."""
    from gossamer.sweep import study as studies

    kept = studies.storage(file)
    name = options.study_name or "search"
    named = [objectives.read(text) for text in options.objectives]
    found = studies.find(kept, name)
    if found is None:
        corners = [proposals.frozen(texts) for texts in proposals.space.corners()]
        _say(f"checking {len(corners)} jobs at the corners of the search")
        primary, direction = foresee(corners, workers.environment)
        aims = aims_of(options, named, primary, direction)
        about = {"primary": primary, "direction": direction, "objectives": list(options.objectives)}
        return studies.begin(kept, name, [each.direction or "" for each in aims], about), aims
    about = found.user_attrs.get(studies.ABOUT)
    if about is None or about["objectives"] != list(options.objectives):
        theirs = show(about["objectives"]) if about else "other objectives"
        raise ResumeError(
            f"{file}: the study {name} is of {theirs}; give another {SWEEPER}.study_name"
        )
    return found, aims_of(options, named, about["primary"], about["direction"])


def _command(proposals: Proposals) -> str:
    """How the command of a single run begins: the config tree that the search was started with."""
    tree = proposals.space.tree
    words = ["gossamer"]
    if tree.directory != os.path.abspath(conf_dir()):
        words += ["--config-path", tree.directory]
    if tree.name != "config":
        words += ["--config-name", tree.name]
    if tree.extra:
        words += ["--config-dir", tree.extra]
    return shlex.join([*words, *proposals.hydra])


def identity(command: Any, argv: Sequence[str]) -> list[str]:
    """What makes a search this one: everything typed for its jobs, and its settings but for how
    many trials there are to be and how many at once."""
    settings = dict(OmegaConf.to_container(command.base.hydra.sweeper))
    for name in ("n_trials", "n_jobs", "storage"):
        settings.pop(name)
    parsed, _ = parse([each for each in argv if not each.startswith("-")], command.tree)
    app = [each.input_line or "" for each in parsed if not of_submission(each)]
    return [json.dumps(settings, sort_keys=True), *sorted(app)]
