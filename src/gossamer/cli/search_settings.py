"""hydra.sweeper.* of a search: what is wrong with it, and what it aims at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gossamer.cli import validate
from gossamer.cli.check import SEARCH, Job
from gossamer.cli.space import Space
from gossamer.cli.suggest import line
from gossamer.cli.values import show
from gossamer.errors import ConfigError
from gossamer.sweep import objectives
from gossamer.sweep.objectives import Objective

SWEEPER = "hydra.sweeper"


@dataclass(frozen=True)
class Options:
    """hydra.sweeper.*; conf/hydra/sweeper/optuna.yaml says what each is."""

    n_trials: int
    objectives: Sequence[str]
    sampler: Any
    seed: int
    sampler_options: Mapping[str, Any] | None
    pruner: Any
    prune_on: str | None
    pruner_options: Mapping[str, Any] | None
    n_jobs: int | None
    study_name: str | None
    storage: str | None
    params: Mapping[str, str] | None


def problems(settings: DictConfig, space: Space, jobs: Sequence[Job]) -> list[str]:
    """What is wrong with the settings of a search, `jobs` being those at its corners."""
    plain = dict(OmegaConf.to_container(settings, resolve=True))  # type: ignore[arg-type]
    plain.pop("_target_", None)
    found = [
        line(key, None if value is validate.ABSENT else show(value), message)
        for key, value, message in validate.listed(SWEEPER, plain, SEARCH)
    ]
    return found or list(_contradictions(Options(**plain), space, jobs))


def _contradictions(options: Options, space: Space, jobs: Sequence[Job]) -> Iterator[str]:
    if all(each.fixed for each in space.parameters):
        yield (
            "hydra/sweeper=optuna: there is nothing to search; give a key several values "
            "(compression=none,dsee), a range(1,9) or an interval(1e-5,1e-3)"
        )
    for name in ("n_trials", "n_jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            yield f"{SWEEPER}.{name}={value}: at least 1"
    if not 0 <= options.seed < 2**32:
        yield f"{SWEEPER}.seed={options.seed}: must be between 0 and 2^32 - 1"
    named: list[Objective] = []
    for text in options.objectives:
        try:
            named.append(objectives.read(text))
        except ValueError as error:
            yield f"{SWEEPER}.objectives={text}: {error}"
    if not options.objectives:
        yield f"{SWEEPER}.objectives=[]: name at least one, such as {objectives.QUALITY}"
    if len({each.name for each in named}) < len(named):
        yield f"{SWEEPER}.objectives={show(list(options.objectives))}: one is named twice"
    if options.sampler == "grid":
        for each in space.parameters:
            if each.listed is None:
                yield (
                    f"{SWEEPER}.sampler=grid: the values of {each.key} cannot be listed; give "
                    "choices or a range with a step, or take another sampler"
                )
    if options.pruner != "none":
        yield from _pruning(options, named, jobs)
    if any(job.config.get("rerun") for job in jobs):
        yield "rerun=true: a search keeps what its trials found; run a single job again instead"
    if any(job.config.get("sweep", {}).get("wait") is False for job in jobs):
        yield "sweep.wait=false: a search asks for a trial when others have ended, so it waits"


def _pruning(options: Options, named: Sequence[Objective], jobs: Sequence[Job]) -> Iterator[str]:
    where = f"{SWEEPER}.pruner={options.pruner}"
    if len(options.objectives) > 1:
        yield f"{where}: only with a single objective; Optuna prunes by one value"
    elif named and named[0].name != objectives.QUALITY and named[0].metric is None:
        yield (
            f"{where}: {named[0].name} is known only when a run is done; a trial can be given up "
            "where the objective is quality"
        )
    if options.prune_on is not None and not options.prune_on.startswith(objectives.SPLIT):
        yield (
            f"{SWEEPER}.prune_on={options.prune_on}: must be a metric of the validation split, "
            f"such as {objectives.SPLIT}accuracy"
        )
    silent = next((job for job in jobs if job.config["trainer"].get("evaluate_every") == 0), None)
    if silent is not None:
        yield (
            f"{where}: a run evaluates at the end of its stages only, so there is nothing to judge "
            "it by; set trainer.evaluate_every=10, or as many steps as you like"
        )


def aims_of(
    options: Options, named: Sequence[Objective], primary: str, direction: Any
) -> list[Objective]:
    aims = [each.told(primary, direction) for each in named]
    if options.pruner != "none" and options.prune_on is not None:
        other = objectives.read(f"max:{options.prune_on}").metric
        better = direction if other == primary else "min" if other == "loss" else None
        if better is not None and better != aims[0].direction:
            raise ConfigError(
                f"{SWEEPER}.prune_on={options.prune_on}: less of it is better and more of "
                f"{aims[0].title}, or the other way round; Optuna knows one direction"
            )
    return aims


def watched(options: Options, aims: Sequence[Objective]) -> str | None:
    if len(aims) > 1:
        return None
    return objectives.read(f"max:{options.prune_on}").metric if options.prune_on else aims[0].metric
