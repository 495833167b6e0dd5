"""Finished runs as points (budget, gap), and which of them one law may be fitted to.

The gap of a run is its test metric against its own dense twin's, positive where the compressed
model is worse. A series is one configuration at several budgets: what differs is trainer.steps,
base_steps and the seed. With keys, it is one value of each; but whatever the keys, runs on other
data, of another model, from another start or base, in another metric, or whose twin is of another
kind never share one.
"""

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from gossamer.errors import ConfigError
from gossamer.records.grouping import Note, gathered, idle, ordered, text, varying
from gossamer.records.runs import LOWER, Key, Run, expect, key_names, one_of

Axis = Literal["tokens", "steps"]
BUDGET = frozenset({"trainer.steps", "trainer.base_steps"})  # keys that a law runs along
MORE = ("accuracy", "top5", "f1", "macro_f1", "matthews", "pearson", "spearman")  # more is better
TWINS = {
    "continued": "the dense model, continued for the same steps",
    "base": "the dense base as it was, not continued",
    None: "the dense twin",
}
STEPS = (250, 500, 1000, 2000)  # what is proposed if nothing is known


@dataclass(frozen=True)
class Asked:
    """What is fitted.

    Args:
        metric: a test metric; "": the loss where less of the primary metric is better, else that.
        x: the budget: tokens or steps that the run's own stages saw.
        by: keys whose values make a series; (): a series is a configuration.
        where: an SQL condition on runs; "": all.
        at: budgets to predict the gap at.
        mix_twins: fit one law also to gaps to twins of different kinds, equal pairs or not.
    """

    metric: str = ""
    x: Axis = "tokens"
    by: Sequence[str] = ()
    where: str = ""
    at: Sequence[float] = ()
    mix_twins: bool = False


@dataclass(frozen=True)
class Point:
    """A seed at a budget: the mean gap of its runs, which are several only where keys mix them."""

    x: int
    seed: int
    gap: float
    runs: int


@dataclass(eq=False)
class Series:
    runs: list[Run]
    by: dict[str, Key]
    metric: str
    direction: Literal["max", "min"]
    points: list[Point]  # by budget, then seed
    apart: dict[str, Key] = field(default_factory=dict)  # what sets it apart from others like it

    @property
    def first(self) -> Run:
        return self.runs[0]

    @cached_property
    def budgets(self) -> dict[int, list[Point]]:
        found: dict[int, list[Point]] = defaultdict(list)
        for point in self.points:
            found[point.x].append(point)
        return dict(found)

    @property
    def seeds(self) -> list[int]:
        return sorted({point.seed for point in self.points})

    @cached_property
    def over(self) -> dict[str, list[Key]]:
        """The keys besides budget and seed in which its runs differ, with their values."""
        if not self.by:
            return {}
        return {k: ordered(v) for k, v in varying(self.runs).items() if k not in BUDGET}

    @property
    def twins(self) -> list[str]:
        """What the gap is to, in words; several only if they were asked to be mixed."""
        return list(dict.fromkeys(map(_twin, self.runs)))

    @property
    def title(self) -> str:
        choices = self.first.record.choices
        methods = dict.fromkeys("+".join(run.methods) for run in self.runs)
        keys = {k: v for k, v in self.by.items() if k not in ("model", "dataset", "task")}
        keys = {k: v for k, v in {**keys, **self.apart}.items() if k != "compression"}
        words = [text(*pair) for pair in keys.items()]
        head = f"{', '.join(methods)} on {choices.model} × {choices.dataset} ({choices.task})"
        return " ".join([head, *words])


def series(every: Sequence[Run], asked: Asked) -> tuple[list[Series], list[str]]:
    """The series, most points first, and notes on what has no point and on what was not mixed.
    Raises ConfigError for a key or a metric that no run has, and where no run has tokens."""
    expect("--by", asked.by, key_names(every), "key")
    if inside := [key for key in asked.by if key in BUDGET or key == "seed"]:
        raise ConfigError(f"--by {inside[0]}: a law is fitted over budgets and seeds; leave it out")
    if asked.metric:
        names = dict.fromkeys(name for run in every for name in run.record.quality.compressed)
        expect("--metric", [asked.metric], list(names), "test metric")
    compressed = [run for run in every if run.methods]
    notes = []
    if dense := len(every) - len(compressed):
        notes.append(f"left out: {dense} dense runs, which have no gap to a twin")
    found: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    lacking: list[Note] = []
    for run in compressed:
        if why := _no_point(run, asked):
            lacking.append(("left out: ", str(run.path), f": {why}"))
        else:
            found[_identity(run, asked)].append(run)
    if compressed and asked.x == "tokens" and all(budget(run, "tokens") is None for run in every):
        raise ConfigError(
            "--x tokens: no record here says how many tokens its run saw (older ones, and data "
            "sets that are no text to be continued, do not); type --x steps"
        )
    listed = [_series(runs, asked) for runs in found.values()]
    listed.sort(key=lambda one: (-len(one.budgets), -len(one.points), one.title))
    _tell_apart(listed)
    return listed, [*notes, *gathered(lacking, "runs"), *_kept_apart(listed), *_averaged(listed)]


def budget(run: Run, x: Axis) -> int | None:
    return run.record.budget.tokens if x == "tokens" else run.record.budget.steps


def metric_of(run: Run, asked: Asked) -> str:
    quality = run.record.quality
    if asked.metric:
        return asked.metric
    return (
        "loss" if quality.direction == "min" and "loss" in quality.compressed else quality.primary
    )


def direction_of(run: Run, name: str) -> Literal["max", "min"]:
    """Which end of a test metric is better. Raises ConfigError if that is not known."""
    if name == run.record.quality.primary:
        return run.record.quality.direction
    if name in LOWER:
        return "min"
    if name in MORE:
        return "max"
    known = one_of([run.record.quality.primary, *LOWER, *MORE], most=20)
    raise ConfigError(
        f"--metric {name}: whether more or less of it is better is not known, so a gap has no "
        f"sign; it is known of {known}"
    )


def gap(run: Run, name: str) -> float | None:
    """How much worse than its twin a run is; None where either has no finite value."""
    small, dense = run.figure(name), run.twin_figure(name)
    if small is None or dense is None:
        return None
    return small - dense if direction_of(run, name) == "min" else dense - small


def command(one: Series) -> str:
    """What to type for more budgets: the first run's command over four budgets, those that are
    there among them."""
    there = sorted({v for r in one.runs if isinstance(v := r.keys.get("trainer.steps"), int) and v})
    steps = list(there)
    while steps and len(steps) < len(STEPS):
        steps.append(2 * steps[-1])
    typed = [
        word
        for word in one.first.record.overrides
        if word.partition("=")[0].lstrip("+~") not in ("trainer.steps", "seed", "rerun", "sweep")
    ]
    seeds = f"seed={','.join(map(str, one.seeds[:5] if len(one.seeds) > 2 else (1, 2, 3)))}"
    over = f"trainer.steps={','.join(map(str, steps or STEPS))}"
    return shlex.join(["gossamer", "-m", *typed, over, seeds])


def _no_point(run: Run, asked: Asked) -> str | None:
    x, name = budget(run, asked.x), metric_of(run, asked)
    if x is None:
        return "says no tokens (--x steps needs none)"
    if x <= 0:
        return "took no step, so it is no point of a law over them"
    return None if gap(run, name) is not None else f"{name} of it or its twin is not finite"


def _identity(run: Run, asked: Asked) -> tuple[Any, ...]:
    record = run.record
    if asked.by:
        chosen: tuple[Any, ...] = tuple(run.keys.get(key) for key in asked.by)
    else:
        chosen = (
            tuple(run.methods),
            tuple(
                (key, run.keys[key])
                for key in sorted(run.keys)
                # which twin is told below
                if not idle(key)
                and key not in BUDGET
                and key != "twin"
                and run.keys[key] is not None
            ),
        )
    name = metric_of(run, asked)
    twin = () if asked.mix_twins else (run.keys.get("twin"), record.budget.pair_equal)
    choices, start = record.choices, (record.budget.start, record.budget.base)
    place = (choices.model, choices.dataset, choices.task, run.model, run.data, *start)
    return (*chosen, *place, name, direction_of(run, name), twin)


def _series(runs: list[Run], asked: Asked) -> Series:
    name = metric_of(runs[0], asked)
    gaps: dict[tuple[int, int], list[float]] = defaultdict(list)
    for run in runs:
        gaps[budget(run, asked.x) or 0, run.record.seed].append(gap(run, name) or 0.0)
    points = [Point(*at, math.fsum(v) / len(v), len(v)) for at, v in sorted(gaps.items())]
    by = {key: runs[0].keys.get(key) for key in asked.by}
    return Series(runs, by, name, direction_of(runs[0], name), points)


def _twin(run: Run) -> str:
    kind = run.keys.get("twin")
    told = TWINS.get(kind if isinstance(kind, str) else None) or f"another dense model ({kind})"
    steps = run.record.budget
    if steps.pair_equal or (kind == "base" and steps.base == sum(steps.twin)):
        return told
    return f"{told} (unequal pair)"


def _terms(run: Run) -> dict[str, Key]:
    """What is never mixed, in words."""
    record = run.record
    return {
        **dict(run.model),
        **dict(run.data),
        "start": record.budget.start,
        "base": record.budget.base,
        "twin": run.keys.get("twin"),
        "pair_equal": record.budget.pair_equal,
        "metric": record.quality.primary,
    }


def _tell_apart(listed: Sequence[Series]) -> None:
    """Set what sets series of one title apart: the keys in which they differ."""
    for alike in _alike(listed):
        keys = varying([one.first for one in alike]) if not alike[0].by else {}
        names = [key for key in keys if key not in BUDGET and key != "twin"]
        terms = [_terms(one.first) for one in alike]
        for name in dict.fromkeys(name for term in terms for name in term):
            if len({term.get(name) for term in terms}) > 1 and name not in names:
                names.append(name)
        for one, term in zip(alike, terms, strict=True):
            one.apart = {name: one.first.keys.get(name, term.get(name)) for name in names}


def _alike(listed: Iterable[Series]) -> list[list[Series]]:
    found: dict[str, list[Series]] = defaultdict(list)
    for one in listed:
        found[one.title].append(one)
    return [several for several in found.values() if len(several) > 1]


def _kept_apart(listed: Sequence[Series]) -> list[str]:
    lines = []
    heads = Counter(one.title.partition(") ")[0] + ")" * (") " in one.title) for one in listed)
    for head, count in heads.items():
        if count > 1:
            lines.append(
                f"not mixed: {head}: {count} series, which differ in more than budget and seed; "
                "each has its own law"
            )
    return lines


def _averaged(listed: Sequence[Series]) -> list[str]:
    return gathered(
        (("mixes " + f"{key} ({one_of(values)}): "), one.title, "")
        for one in listed
        for key, values in one.over.items()
    )
