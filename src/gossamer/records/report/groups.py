"""Which runs are seeds of one configuration, what tells configurations apart, and which are on one
scale: a *scope* is a model, a data set, a task and its primary metric."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gossamer.records import grouping
from gossamer.records.runs import Key, Run, data_of, model_of

Flat = Mapping[str, Key]


@dataclass(frozen=True)
class Scope:
    """What may be drawn on one axis of quality."""

    model: str
    dataset: str
    task: str
    metric: str  # "": nothing is finished
    direction: str
    split: str
    keys: tuple[tuple[str, Key], ...]  # of the configuration: which model, which rows


@dataclass
class Group:
    """The seeds of one configuration under one budget."""

    scope: Scope
    method: str  # "none", "dsee", "lora+magnitude"
    seeds: grouping.Group
    places: list[int]  # of the runs, in the list that was grouped
    flat: Flat
    label: str = ""  # the method, and what tells it from the others of its kind

    @property
    def first(self) -> Run:
        return self.seeds.first


def scope_of(run: Run, flat: Flat) -> Scope:
    choices, quality = run.record.choices, run.record.quality
    return Scope(
        choices.model,
        choices.dataset,
        choices.task,
        quality.primary,
        quality.direction,
        quality.split,
        (*model_of(flat), *data_of(flat)),
    )


def apart(scopes: Sequence[Scope]) -> dict[Scope, str]:
    """What tells each from the others of its model and data set: "path /data/a"; "" for nothing."""
    alike: dict[tuple[str, str], list[Scope]] = defaultdict(list)
    for scope in scopes:
        alike[scope.model, scope.dataset].append(scope)
    found = {}
    for several in alike.values():
        nothing: dict[str, Key] = {key: None for scope in several for key, _ in scope.keys}
        flats = [nothing | dict(scope.keys) for scope in several]
        keys = varying(flats)
        tasks = len({scope.task for scope in several}) > 1
        metrics = len({scope.metric for scope in several} - {""}) > 1
        for scope, flat in zip(several, flats, strict=True):
            words = [scope.task] * tasks + [scope.metric] * metrics + _worded(keys, flat)
            found[scope] = ", ".join(filter(None, words))
    return found


def told(flat: Flat) -> Flat:
    """The keys that say what was run, without those that change no result, and classes."""
    return {
        key: value
        for key, value in flat.items()
        if not grouping.idle(key) and not key.endswith("_target_")
    }


def varying(flats: Iterable[Mapping[str, Key]]) -> list[str]:
    """The keys that have more than one value, those that most configurations have first. A key
    that only some have (another method's) varies if it does so among these."""
    values: dict[str, set[str]] = defaultdict(set)
    having: Counter[str] = Counter()
    for flat in flats:
        for key, value in flat.items():
            values[key].add(json.dumps(value))
            having[key] += 1
    found = [key for key, distinct in values.items() if len(distinct) > 1]
    return sorted(found, key=lambda key: (-having[key], key))


def grouped(every: Sequence[Run], flats: Sequence[Flat]) -> list[Group]:
    """Groups in the order of their first run, by the rule of `gossamer compare`. `flats`: the
    configuration of each run."""
    places = {run: place for place, run in enumerate(every)}
    groups = []
    for seeds in grouping.groups(every, ())[0]:
        flat = flats[places[seeds.first]]
        scope = scope_of(seeds.first, flat)
        method = seeds.choice("compression")
        groups.append(Group(scope, method, seeds, [places[r] for r in seeds.runs], told(flat)))
    _label(groups)
    return groups


def _label(groups: Sequence[Group]) -> None:
    alike: dict[tuple[Scope, str], list[Group]] = defaultdict(list)
    for group in groups:
        alike[group.scope, group.method].append(group)
    for (_, method), several in alike.items():
        keys = varying(group.flat for group in several)
        for group in several:
            group.label = " · ".join([method, *_worded(keys, group.flat)])
        repeated = Counter(group.label for group in several)
        for group in several:
            if repeated[group.label] > 1:
                first = group.first.record
                group.label += f" · {first.budget.total} steps · {first.config_digest[:8]}"


def _worded(keys: Sequence[str], flat: Flat) -> list[str]:
    """["lr 0.0001"]: by the last part of a key, where that names one of `keys` only."""
    words = Counter(key.rpartition(".")[2] for key in keys)
    return [
        f"{last if words[last := key.rpartition('.')[2]] == 1 else key} {plain(flat[key])}"
        for key in keys
        if key in flat
    ]


def plain(value: Key) -> str:
    """A configuration's value as text: 3e-05, ["query", "value"], null."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
