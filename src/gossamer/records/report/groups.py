"""Which runs are seeds of one configuration, what tells configurations apart, and which are on one
scale: a *scope* is a model, a data set, a task and its primary metric."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.records.table import methods

Record = Mapping[str, Any]
Flat = dict[str, Any]
UNTOLD = {"seed", "rerun", "name", "outputs", "digest", "directory", "twin_export"}
UNTOLD_GROUPS = ("logger.", "hydra.", "sweep.")


@dataclass(frozen=True)
class Scope:
    """What may be drawn on one axis of quality."""

    model: str
    dataset: str
    task: str
    metric: str
    direction: str
    split: str


@dataclass
class Group:
    """The seeds of one configuration under one budget."""

    scope: Scope
    method: str  # "none", "dsee", "lora+magnitude"
    members: list[Record]  # by seed
    places: list[int]  # of the members, in the list that was grouped
    flat: Flat
    label: str = ""  # the method, and what tells it from the others of its kind


def scope_of(record: Record) -> Scope:
    choices, quality = record["choices"], record["quality"]
    return Scope(
        *(choices[name] for name in ("model", "dataset", "task")),
        *(quality[name] for name in ("primary", "direction", "split")),
    )


def method_of(record: Record) -> str:
    return "+".join(methods(record)) or "none"


def flatten(config: Mapping[str, Any], prefix: str = "") -> Flat:
    """{"trainer.lr": 1e-4}: the leaves of a nested configuration by their dotted keys; a list is
    one leaf, an empty mapping too."""
    flat: Flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def told(flat: Flat) -> Flat:
    """The keys that say what was run, without names, folders, loggers and classes."""
    return {
        key: value
        for key, value in flat.items()
        if key not in UNTOLD and not key.startswith(UNTOLD_GROUPS) and not key.endswith("_target_")
    }


def varying(flats: Iterable[Flat]) -> list[str]:
    """The keys that have more than one value, those that most configurations have first. A key
    that only some have (another method's) varies if it does so among these."""
    values: dict[str, set[str]] = defaultdict(set)
    having: Counter[str] = Counter()
    for flat in flats:
        for key, value in flat.items():
            values[key].add(json.dumps(value, sort_keys=True, default=str))
            having[key] += 1
    found = [key for key, distinct in values.items() if len(distinct) > 1]
    return sorted(found, key=lambda key: (-having[key], key))


def grouped(records: Sequence[Record], flats: Sequence[Flat]) -> list[Group]:
    """Groups in the order of their first run. Only equal digests, budgets and workloads are seeds
    of one another."""
    found: dict[Any, Group] = {}
    for place, (record, flat) in enumerate(zip(records, flats, strict=True)):
        budget = record["budget"]
        terms = tuple(budget[name] for name in ("start", "base", "steps", "unspent", "pair_equal"))
        key = (
            scope_of(record),
            method_of(record),
            record["config_digest"],
            terms,
            tuple(budget["twin"]),
            record["compute"]["workload"],
        )
        if key not in found:
            found[key] = Group(scope_of(record), method_of(record), [], [], told(flat))
        found[key].members.append(record)
        found[key].places.append(place)
    groups = list(found.values())
    for group in groups:
        order = sorted(zip(group.members, group.places, strict=True), key=lambda m: m[0]["seed"])
        group.members, group.places = map(list, zip(*order, strict=True))
    _label(groups)
    return groups


def _label(groups: Sequence[Group]) -> None:
    alike: dict[Any, list[Group]] = defaultdict(list)
    for group in groups:
        alike[group.scope, group.method].append(group)
    for (_, method), several in alike.items():
        keys = varying(group.flat for group in several)
        words = Counter(key.rpartition(".")[2] for key in keys)
        for group in several:
            parts = [method]
            for key in keys:
                if key in group.flat:
                    last = key.rpartition(".")[2]
                    parts.append(f"{last if words[last] == 1 else key} {plain(group.flat[key])}")
            group.label = " · ".join(parts)
        repeated = Counter(group.label for group in several)
        for group in several:
            if repeated[group.label] > 1:
                first = group.members[0]
                steps = first["budget"]["total"]
                group.label += f" · {steps} steps · {first['config_digest'][:8]}"


def plain(value: Any) -> str:
    """A configuration's value as text: 3e-05, [query, value], null."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str).replace('"', "")
