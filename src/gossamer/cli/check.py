"""The first pass of every command: YAML only, no torch; all problems at once, one line each."""

from __future__ import annotations

import argparse
import shlex
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gossamer.cli import choices, keys, validate
from gossamer.cli.overrides import expand, parse, spell, sweep_problems
from gossamer.cli.suggest import line
from gossamer.cli.tree import SEVERAL, Tree
from gossamer.cli.values import show
from gossamer.errors import ConfigError

# what a dense twin has in common with its run, or has not at all
OWN = (SEVERAL, "twin", "experiment", "outputs", "name", "seed", "rerun", "sweep", "hydra")
LISTED = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # every combination is a job
SEARCH = "hydra_plugins.gossamer_optuna.Optuna"  # the jobs are asked for one after another


@dataclass
class Job:
    """One run: what was typed for it, what it composes to, and what is wrong with that."""

    overrides: list[str]
    tree: Tree
    composed: DictConfig | None = None  # with its hydra node
    config: dict[str, Any] = field(default_factory=dict)  # resolved, plain, without it
    twin: dict[str, Any] | None = None  # the resolved config of a twin given as overrides
    twin_choices: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass
class Command:
    """A command line, checked: a single run has one job, a sweep any number."""

    tree: Tree
    multirun: bool
    jobs: list[Job]
    problems: list[str]
    base: DictConfig | None = None  # what is fixed in all jobs, composed
    enumerated: bool = True  # False: a search; `jobs` are those at its corners


def check(argv: Sequence[str], tree: Tree | None = None) -> list[str]:
    """All problems of the first pass for the arguments of `gossamer [plan]`; [] if none. `tree` is
    one that is open already, for many checks."""
    try:
        return examine(arguments(argv), tree).problems
    except ConfigError as error:
        return list(error.problems)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's own flags and the overrides, in any order. argparse exits with 2 on unknown flags."""
    return get_args_parser().parse_intermixed_args(spell(argv))


def open_tree(args: argparse.Namespace) -> Tree:
    """The tree that -cp, -cn, -cd and hydra.searchpath name. Raises ConfigError."""
    searchpath = [each for each in args.overrides if each.startswith("hydra.searchpath=")]
    try:
        with warnings.catch_warnings(action="ignore"):  # a missing search path is an error below
            tree = Tree(args.config_path, args.config_name or "config", args.config_dir, searchpath)
    except HydraException as error:
        raise ConfigError(f"{' '.join(searchpath)}: {str(error).splitlines()[0]}") from error
    for source in tree.repository.get_sources():
        if source.provider.startswith("hydra.searchpath") and not source.available():
            raise ConfigError(f"hydra.searchpath={source.path}: no such folder or package")
    return tree


def examine(args: argparse.Namespace, tree: Tree | None = None) -> Command:
    """Check everything that YAML can tell about a command line; compose its jobs on the way."""
    tree = tree or open_tree(args)
    overrides, broken = parse(args.overrides, tree)
    fixed = [each for each in overrides if not each.is_sweep_override()]
    first = examine_job([*fixed, *_meant_as_lists(overrides, tree)], tree)
    mode = first.composed.hydra.mode if first.composed is not None else None
    multirun = bool(args.multirun or mode == RunMode.MULTIRUN)
    sweeper = _sweeper(first.composed)
    broken += sweep_problems(overrides, multirun=multirun, listed=sweeper.name != SEARCH)
    swept = sweeper.name == SEARCH or sweeper.params or len(fixed) < len(overrides)
    if not multirun or broken or not swept:
        return Command(tree, multirun, [first], [*broken, *first.problems], first.composed)
    shared = [each for each in fixed if of_submission(each)]
    app = [each for each in overrides if not of_submission(each)]
    if sweeper.name == SEARCH:
        return _examine_search(first, shared, app, sweeper.params)
    if sweeper.name != LISTED:
        problem = (
            f"hydra/sweeper: {sweeper.name} is not known here; without it -m runs every "
            "combination, and hydra/sweeper=optuna searches"
        )
        return Command(tree, multirun, [], [problem], first.composed)
    jobs = [_at(texts, shared, tree) for texts in expand(app, sweeper.params, tree)]
    return Command(tree, multirun, jobs, _merge(jobs), first.composed)


def _at(texts: list[str], shared: Sequence[Override], tree: Tree) -> Job:
    """One job of a sweep, examined."""
    parsed, broken = parse(texts, tree)
    job = examine_job([*shared, *parsed], tree)
    job.problems = [*broken, *job.problems]
    job.overrides = texts
    return job


def _examine_search(
    first: Job, shared: Sequence[Override], app: Sequence[Override], params: dict[str, str]
) -> Command:
    """A search has no list of jobs; those at its corners are examined, and its settings."""
    from gossamer.cli import search_settings, space

    found, problems = space.read(app, params, first.tree)
    jobs = [] if problems else [_at(texts, shared, first.tree) for texts in found.corners()]
    problems += _merge(jobs)
    if not problems and first.composed is not None:
        problems = search_settings.problems(first.composed.hydra.sweeper, found, jobs)
    return Command(first.tree, True, jobs, problems, first.composed, enumerated=False)


def of_submission(override: Override) -> bool:
    """Is it for whoever submits a sweep (hydra.…, sweep.…), and no part of what a job does?"""
    return override.is_hydra_override() or override.key_or_group.partition(".")[0] == "sweep"


def _meant_as_lists(overrides: Sequence[Override], tree: Tree) -> list[Override]:
    """compression=a,b without -m is wrong, but the keys of both are not; with -m it is dropped."""
    texts = [each.input_line or "" for each in overrides if each.key_or_group == SEVERAL]
    swept = [text for text in texts if "," in text and "[" not in text and "(" not in text]
    return parse([f"{SEVERAL}=[{text.partition('=')[2]}]" for text in swept], tree)[0]


@dataclass(frozen=True)
class _Sweeper:
    name: str  # of its class
    params: dict[str, str]


def _sweeper(composed: DictConfig | None) -> _Sweeper:
    if composed is None:
        return _Sweeper(LISTED, {})
    node = composed.hydra.sweeper
    return _Sweeper(str(node.get("_target_", LISTED)), dict(node.get("params") or {}))


def _merge(jobs: list[Job]) -> list[str]:
    """The problems of all jobs, each once; one that not all have names the first that has it."""
    merged: dict[str, str] = {}
    for job in jobs:
        for problem in job.problems:
            everywhere = all(problem in other.problems for other in jobs)
            where = "" if everywhere else f" [in the job {shlex.join(job.overrides)}]"
            merged.setdefault(problem, problem + where)
    return list(merged.values())


def examine_job(overrides: Sequence[Override], tree: Tree) -> Job:
    """Compose one job and collect what is wrong with it."""
    texts = [each.input_line or "" for each in overrides]
    job = Job([t for t, o in zip(texts, overrides, strict=True) if not of_submission(o)], tree)
    choosing = [each for each in overrides if choices.is_choice(each, tree)]
    setting = [each for each in overrides if not choices.is_choice(each, tree)]
    valid: list[str] = []
    for override in choosing:
        if problem := choices.choice_problem(override, tree):
            job.problems.append(problem)
        else:
            valid.append(override.input_line or "")
    searchpath = [t for t in texts if t.startswith("hydra.searchpath=")]
    try:
        composed = tree.compose([*valid, *searchpath])
    except Exception as error:  # a broken YAML file, or choices that do not go together
        job.problems.append(_composition(error, valid, tree))
        return job
    for override in setting:
        if problem := keys.apply(override, composed, tree):
            job.problems.append(problem)
    composed.hydra.overrides.task = list(job.overrides)
    job.config = _resolved(composed, job)
    _leave_out(job.config, overrides, tree)
    wrong = {problem.split("=")[0].split(":")[0] for problem in job.problems}
    for key, value, message in validate.problems(job.config, tree):
        if key not in wrong:
            job.problems.append(
                line(key, None if value is validate.ABSENT else show(value), message)
            )
    _twin(job, overrides)
    job.composed = composed
    return job


def _leave_out(config: dict[str, Any], overrides: Sequence[Override], tree: Tree) -> None:
    """An experiment may set keys of its methods; `experiment=x compression=none` runs without them.
    Keys of a method that was not chosen stay, and are a problem, if they were typed, or if there is
    no such method."""
    methods = config.get(SEVERAL)
    if not isinstance(methods, dict):
        return
    for name, node in list(methods.items()):
        typed = any(f"{each.key_or_group}.".startswith(f"{SEVERAL}.{name}.") for each in overrides)
        chosen = not isinstance(node, dict) or "_target_" in node
        if not chosen and not typed and name in tree.options(SEVERAL):
            del methods[name]


def _composition(error: Exception, valid: list[str], tree: Tree) -> str:
    """One line for what Hydra could not compose, naming the choice that breaks it if one does."""
    culprit = next((text for text in valid if not _composes([text], tree)), None)
    if culprit is None and not _composes([], tree):
        culprit = tree.name
    lines = [each.strip() for each in str(error).splitlines() if each.strip()]
    return f"{culprit or ' '.join(valid)}: {' '.join(lines[:3]) or type(error).__name__}"


def _composes(texts: list[str], tree: Tree) -> bool:
    try:
        tree.compose(texts)
    except Exception:
        return False
    return True


def _resolved(composed: DictConfig, job: Job) -> dict[str, Any]:
    """The config as plain data, every interpolation resolved; keys that cannot be are problems."""
    state = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(composed)
    try:
        return dict(_entries(composed, "", job.problems, skip=("hydra",)))
    finally:
        HydraConfig.instance().cfg = state


def _entries(
    node: DictConfig, path: str, problems: list[str], skip: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any]]:
    for key in node:
        name = str(key)
        if name not in skip:
            try:
                yield name, _plain(node[key], f"{path}{name}", problems)
            except MissingMandatoryValue:
                problems.append(line(f"{path}{name}", None, "must be given"))
            except (
                OmegaConfBaseException,
                RecursionError,
                ValueError,
                TypeError,
                OSError,
            ) as error:
                raw = node._get_node(key)
                text = str(getattr(raw, "_value", lambda: None)())
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                problems.append(line(f"{path}{name}", text, f"cannot be resolved: {reason}"))


def _plain(value: Any, path: str, problems: list[str]) -> Any:
    if isinstance(value, DictConfig):
        return dict(_entries(value, f"{path}.", problems))
    if isinstance(value, ListConfig):
        return [_plain(each, f"{path}.{index}", problems) for index, each in enumerate(value)]
    return value


def _twin(job: Job, overrides: Sequence[Override]) -> None:
    """Compose the twin that `twin=[model=…]` names: the same job, dense, with these overrides. Keys
    that were typed for a choice which the twin replaces stay with the job."""
    named = job.config.get("twin")
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        return
    parsed, problems = parse(named, job.tree)
    problems += sweep_problems(parsed, multirun=False)
    for override in parsed:
        top = override.key_or_group.partition(".")[0]
        if top in OWN:
            problems.append(f"{override.input_line}: a dense twin cannot change {top}")
    if not problems:
        replaced = {each.key_or_group for each in parsed if choices.is_choice(each, job.tree)}
        kept = [
            each
            for each in overrides
            if each.key_or_group.partition(".")[0] not in (SEVERAL, "twin", *replaced)
            and not each.is_hydra_override()
        ]
        dense, _ = parse([f"{SEVERAL}=none", "twin=continued"], job.tree)
        twin = examine_job([*kept, *dense, *parsed], job.tree)
        problems = [problem for problem in twin.problems if problem not in job.problems]
        job.twin = twin.config
        if twin.composed is not None:
            job.twin_choices = dict(twin.composed.hydra.runtime.choices)
    job.problems += [f"twin: {problem}" for problem in problems]
