"""What the page shows, as plain data: every run once, what many runs share only once."""

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gossamer.records import compare
from gossamer.records.intervals import t_quantile
from gossamer.records.report import curves, overview
from gossamer.records.report.groups import (
    Group,
    Scope,
    flatten,
    grouped,
    method_of,
    plain,
    scope_of,
    told,
    varying,
)
from gossamer.records.table import SETTING, speed_labels, speed_up

Record = Mapping[str, Any]
ENVIRONMENT = "environment.json"
LARGEST = 1 << 18  # bytes of an environment file that is taken in
LAYER = ("name", "shape", "pattern", "target", "macs", "changed", "skipped", "method")
HEAD = ("name", "status", "seed", "started", "finished", "host", "device", "sweep", "overrides")


@dataclass
class Shared:
    """Values that many runs have in common: each is kept once, and runs have its place."""

    values: list[Any] = field(default_factory=list)
    places: dict[Hashable, int] = field(default_factory=dict)

    def place(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True, default=str)
        if key not in self.places:
            self.places[key] = len(self.values)
            self.values.append(value)
        return self.places[key]


def gather(paths: Sequence[str | Path], found: compare.Found) -> dict[str, Any]:
    """The page's data, ready for JSON."""
    records = found.records
    runs = {**records, **found.unfinished}
    configs, environments, versions = Shared(), Shared(), Shared()
    steps, layers = Shared(), Shared()
    keys = _keys(runs)
    flats = [flatten(record["config"]) for record in records.values()]
    groups = grouped(list(records.values()), flats)
    settings = _settings(records.values())
    scopes = _scopes(groups, found.unfinished.values(), settings)
    of_run = {place: n for n, group in enumerate(groups) for place in group.places}
    rows, thinned = [], False
    for n, (path, record) in enumerate(runs.items()):
        row = {
            "key": keys[path],
            "path": str(path.parent),
            **{name: record[name] for name in HEAD},
            "digest": record["config_digest"],
            "git": record["git"],
            "model": record["choices"]["model"],
            "dataset": record["choices"]["dataset"],
            "task": record["choices"]["task"],
            "method": method_of(record),
            "config": configs.place(_settled(record["config"])),
            "versions": versions.place(record["versions"]),
            "environment": environments.place(_environment(path.parent / ENVIRONMENT)),
        }
        if record["status"] == "done":
            row |= {"group": of_run[n], **_finished(record, settings, layers)}
        else:
            row["error"] = record["error"]
        logged, cut = curves.read(path.parent / "metrics.jsonl")
        thinned = thinned or cut
        row["curves"] = {
            name: [steps.place(ticks), values] for name, (ticks, values) in logged.items()
        }
        rows.append(row)
    largest = max((len(group.members) for group in groups), default=1)
    return {
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "sources": [str(path) for path in paths],
        "notes": found.notes,
        "points": curves.POINTS if thinned else None,
        "t": [t_quantile(0.95, freedom) for freedom in range(1, largest)],
        "axes": varying(told(flat) for flat in flats),
        "scopes": scopes,
        "settings": [asdict(setting) for setting in settings.values()],
        "groups": [_group(group, scopes, settings) for group in groups],
        "configs": configs.values,
        "environments": environments.values,
        "versions": versions.values,
        "steps": steps.values,
        "layers": layers.values,
        "runs": rows,
    }


def _keys(runs: Mapping[Path, Record]) -> dict[Path, str]:
    """A name for each run's own address in the page: its id; with its name if that is not enough,
    and with a number if that is not either."""
    ids = Counter(record["id"] for record in runs.values())
    found: dict[Path, str] = {}
    taken: Counter[str] = Counter()
    for path in sorted(runs):
        record = runs[path]
        key = record["id"] if ids[record["id"]] == 1 else f"{record['id']}~{record['name']}"
        taken[key] += 1
        found[path] = key if taken[key] == 1 else f"{key}~{taken[key]}"
    return found


def _settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as text by dotted key, without what differs from seed to seed."""
    flat = flatten(config)
    return {key: plain(value) for key, value in flat.items() if key not in ("seed", "directory")}


@dataclass(frozen=True)
class Setting:
    """What a latency holds for; figures of two settings are never in one series."""

    label: str
    workload: str
    detail: str  # device, dtype, runtime, threads, neighbours


def _settings(records: Any) -> dict[tuple[Any, ...], Setting]:
    timed: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for record in records:
        for entry in record["speed"]:
            if "skipped" not in entry:
                timed.setdefault(_place(entry), entry)
    labels = speed_labels(list(timed.values()))
    return {
        place: Setting(label, entry["workload"], _detail(entry))
        for (place, entry), label in zip(timed.items(), labels, strict=True)
    }


def _place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return (entry["workload"], *(entry[name] for name in SETTING))


def _detail(entry: Mapping[str, Any]) -> str:
    words = [entry["device"], entry["dtype"], entry["runtime"]]
    threads, beside = entry["threads"], entry["neighbours"]
    if threads is not None:
        words.append(f"{threads} thread" + "s" * (threads != 1))
    if beside is None:
        words.append("beside jobs unknown")
    elif beside:
        words.append(f"beside {beside} other job" + "s" * (beside != 1))
    return ", ".join(words)


def _scopes(
    groups: Sequence[Group],
    unfinished: Any,
    settings: Mapping[tuple[Any, ...], Setting],
) -> list[dict[str, Any]]:
    """One dict for each scope, the one with the most runs first. Runs that did not finish belong to
    the scopes of their model, data set and task; one of their own if nothing else is there."""

    def label(entry: Mapping[str, Any]) -> str:
        return settings[_place(entry)].label

    cut = Counter(tuple(r["choices"][k] for k in ("model", "dataset", "task")) for r in unfinished)
    members: dict[Scope, list[Group]] = {}
    for group in groups:
        members.setdefault(group.scope, []).append(group)
    found = []
    for scope, several in members.items():
        lost = cut.pop((scope.model, scope.dataset, scope.task), 0)
        verdict = overview.verdict(scope, several, lost, label)
        count = sum(len(group.members) for group in several)
        best = verdict.best and groups.index(verdict.best)
        found.append(
            {
                **asdict(scope),
                "runs": count,
                "headline": verdict.headline,
                "tone": verdict.tone,
                "details": verdict.details,
                "best": best,
            }
        )
    for (model, dataset, task), lost in cut.items():
        text = f"Nothing is finished yet; {lost} failed or were cut."
        found.append(
            {
                **asdict(Scope(model, dataset, task, "", "max", "test")),
                "runs": 0,
                "headline": text,
                "tone": "open",
                "details": ["They are listed below, each with its error."],
                "best": None,
            }
        )
    return sorted(found, key=lambda scope: (-scope["runs"], scope["dataset"], scope["model"]))


def _group(
    group: Group,
    scopes: Sequence[Mapping[str, Any]],
    settings: Mapping[tuple[Any, ...], Setting],
) -> dict[str, Any]:
    own = asdict(group.scope)
    place = next(n for n, scope in enumerate(scopes) if own.items() <= scope.items())
    found = {}
    if group.method != "none":
        timed = overview.measured(group, lambda entry: str(list(settings).index(_place(entry))))
        for setting, (p50, low, high) in timed.items():
            ups = {"p50": p50, "low": low, "high": high}
            found[setting] = {"speed_up": ups, "told": speed_up(**ups)}
    return {"label": group.label, "scope": place, "members": group.places, "speed": found}


def _finished(
    record: Record, settings: Mapping[tuple[Any, ...], Setting], layers: Shared
) -> dict[str, Any]:
    scope = scope_of(record)
    places = {key: n for n, key in enumerate(settings)}
    speed = []
    for entry in record["speed"]:
        if "skipped" in entry:
            speed.append(entry)
            continue
        up = entry["speed_up"]
        speed.append(
            {
                "setting": places[_place(entry)],
                "told": speed_up(**up),
                "speed_up": {name: curves.short(value) for name, value in up.items()},
                **{side: _times(entry[side]) for side in ("compressed", "dense")},
            }
        )
    rows = record["layers"]
    return {
        "metric": scope.metric,
        "direction": scope.direction,
        "quality": {side: record["quality"][side] for side in ("dense", "compressed")},
        "budget": record["budget"],
        "size": record["size"],
        "compute": record["compute"],
        "speed": speed,
        "stages": record["stages"],
        "checks": record["checks"],
        "artifacts": [{**each, "sha256": each["sha256"][:12]} for each in record["artifacts"]],
        "layers": layers.place([{name: layer[name] for name in LAYER} for layer in rows]),
        "density": [round(layer["density"], 4) for layer in rows],
        "bits": [round(layer["bits"], 3) for layer in rows],
    }


def _times(times: Mapping[str, Any]) -> dict[str, Any]:
    return {name: curves.short(value) for name, value in times.items()}


def _environment(path: Path) -> dict[str, str]:
    """The machine and its packages, flat; {} where the file is missing or damaged."""
    try:
        if path.stat().st_size > LARGEST:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: plain(value) for key, value in flatten(found).items()}
