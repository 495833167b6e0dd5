"""The Optuna study behind a search: one file that a second start of the search goes on with."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from gossamer.errors import ConfigError

SamplerName = Literal["tpe", "random", "nsga2", "qmc", "grid"]
PrunerName = Literal["none", "median", "halving", "hyperband"]

FILE = "study.log"  # in the sweep's folder
ABOUT = "gossamer"  # what we note of the study itself
AGAIN = "again"  # of a trial: the number of the failed one that it repeats
WORDS: dict[str, Literal["minimize", "maximize"]] = {"max": "maximize", "min": "minimize"}

optuna.logging.set_verbosity(optuna.logging.WARNING)


def storage(file: Path) -> JournalStorage:
    """The storage in `file`, which this process alone writes. A driver that was killed may have
    left half a line, which would damage what follows it, or Optuna's lock, which would delay the
    next start by half a minute."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)
    if file.exists():
        with file.open("rb+") as opened:
            content = opened.read()
            opened.truncate(content.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(file)))


def find(kept: JournalStorage, name: str) -> Study | None:
    """The study of that name, if it was begun before."""
    names = optuna.get_all_study_names(kept)
    return optuna.load_study(study_name=name, storage=kept) if name in names else None


def begin(
    kept: JournalStorage, name: str, directions: Sequence[str], about: Mapping[str, Any]
) -> Study:
    study = optuna.create_study(
        storage=kept, study_name=name, directions=[WORDS[each] for each in directions]
    )
    study.set_user_attr(ABOUT, dict(about))
    return study


def sampler(name: SamplerName, seed: int, number: int, options: Mapping[str, Any]) -> BaseSampler:
    """What draws trial `number`. Each trial has its own draws, named by seed and number, so that a
    study that was cut asks for the same trials as one that was not. Raises ConfigError."""
    own = int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4])
    try:
        with warnings.catch_warnings(
            action="ignore", category=optuna.exceptions.ExperimentalWarning
        ):
            return _sampler(name, seed, own, options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"hydra.sweeper.sampler_options={_text(options)}: {error}") from error


def _sampler(name: SamplerName, seed: int, own: int, options: Mapping[str, Any]) -> BaseSampler:
    samplers = optuna.samplers
    match name:
        case "tpe":  # trials in flight count as bad ones, or all would be asked for the same
            return samplers.TPESampler(**{"constant_liar": True, **options}, seed=own)
        case "nsga2":
            return samplers.NSGAIISampler(**options, seed=own)
        case "qmc":  # one sequence, of which the study counts the points
            free = samplers.RandomSampler(own)
            fixed = {"scramble": True, "warn_independent_sampling": False, **options}
            return samplers.QMCSampler(**fixed, seed=seed, independent_sampler=free)
    return samplers.RandomSampler(**options, seed=own)  # a grid draws nothing


def pruner(name: PrunerName, options: Mapping[str, Any]) -> BasePruner:
    """What compares a trial that works with the others. Raises ConfigError."""
    kinds: dict[str, type[BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "halving": optuna.pruners.SuccessiveHalvingPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
    }
    try:
        return kinds[name](**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"hydra.sweeper.pruner_options={_text(options)}: {error}") from error


def _text(options: Mapping[str, Any]) -> str:
    return json.dumps(dict(options))


def trials(study: Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states or None)


def asked(study: Study) -> int:
    """How many trials were asked for; a failed one that is repeated counts once."""
    every = trials(study)
    waiting = sum(each.state == TrialState.WAITING for each in every)
    return len(every) - waiting - sum(AGAIN in each.user_attrs for each in every)


def repeat_failed(study: Study) -> None:
    """Ask for the failed trials once more."""
    repeated = {each.user_attrs.get(AGAIN) for each in trials(study)}
    for each in trials(study, TrialState.FAIL):
        if each.number not in repeated:
            study.enqueue_trial(each.params, user_attrs={AGAIN: each.number})


def unfinished(study: Study) -> list[Trial]:
    """The trials that were under way when an earlier driver ended, to be gone on with."""
    study.sampler = optuna.samplers.RandomSampler(0)  # what they need was drawn before
    return [Trial(study, each._trial_id) for each in trials(study, TrialState.RUNNING)]


def best(study: Study) -> list[FrozenTrial]:
    """The Pareto set, by the first objective; with one objective, the trials from the best on."""
    done = trials(study, TrialState.COMPLETE)
    if done and len(study.directions) > 1:
        done = study.best_trials
    largest = study.directions[0].name == "MAXIMIZE"
    return sorted(done, key=lambda each: each.values[0], reverse=largest)
