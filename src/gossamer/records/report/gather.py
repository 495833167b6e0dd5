"""What the page shows, as plain data: every run once, what many runs share only once."""

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gossamer.records import compare
from gossamer.records.figures import speed_ups
from gossamer.records.find import SKIM, uncollected
from gossamer.records.intervals import t_quantile
from gossamer.records.report import curves, gallery, overview
from gossamer.records.report.groups import (
    Flat,
    Group,
    Scope,
    apart,
    grouped,
    plain,
    told,
    varying,
)
from gossamer.records.runs import data_of, flat, model_of, place, runs, timed
from gossamer.records.schema import saved
from gossamer.records.series import by_layer, layer_of
from gossamer.records.table import methods, setting, speed_labels, speed_up

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
    every = {**records, **found.unfinished}
    configs, environments, versions = Shared(), Shared(), Shared()
    steps, layers = Shared(), Shared()
    keys = _keys(every)
    flats = {path: flat(record["config"]) for path, record in every.items()}
    groups = _groups(records, [flats[path] for path in records])
    settings = _settings(records.values())
    scopes, shown = _scopes(groups, [(r, flats[path]) for path, r in found.unfinished.items()])
    of_run = {at: n for n, group in enumerate(groups) for at in group.places}
    rows, thinned, room = [], False, gallery.Room()
    for n, (path, record) in enumerate(every.items()):
        row = {
            "key": keys[path],
            "path": str(path.parent),
            **{name: record[name] for name in HEAD},
            "digest": record["config_digest"],
            "git": record["git"],
            "model": record["choices"]["model"],
            "dataset": record["choices"]["dataset"],
            "task": record["choices"]["task"],
            "method": "+".join(methods(record)) or "none",
            "config": configs.place(_settled(flats[path])),
            "versions": versions.place(record["versions"]),
            "environment": environments.place(_environment(path.parent / ENVIRONMENT)),
        }
        if record["status"] == "done":
            row |= {"group": of_run[n], **_finished(record, settings, layers)}
            row |= gallery.shown(path.parent, room)
        else:
            row["error"] = record["error"]
        logged, cut = curves.read(path.parent / "metrics.jsonl")
        thinned = thinned or cut
        row["curves"] = {
            name: [steps.place(ticks), values]
            for name, (ticks, values) in logged.items()
            if len(ticks) > 1 or layer_of(name) is None  # one value of each layer is no curve
        }
        rows.append(row)
    largest = max((len(group.places) for group in groups), default=1)
    return {
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "sources": [str(path) for path in paths],
        "notes": found.notes,
        "points": curves.POINTS if thinned else None,
        "t": [t_quantile(0.95, freedom) for freedom in range(1, largest)],
        "axes": varying(told(flats[path]) for path in records),
        "scopes": shown,
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


def _groups(records: Mapping[Path, Record], flats: Sequence[Flat]) -> list[Group]:
    """Records as the comparison skims them, grouped by its rule."""
    with uncollected():
        skimmed = {path: SKIM.decode(msgspec.json.encode(r)) for path, r in records.items()}
    return grouped(runs(skimmed), flats)


def _settled(config: Flat) -> dict[str, str]:
    """A configuration as text, without what differs from seed to seed."""
    return {key: plain(value) for key, value in config.items() if key not in ("seed", "directory")}


@dataclass(frozen=True)
class Setting:
    """What a latency holds for; figures of two settings are never in one series."""

    label: str
    workload: str
    detail: str  # device, dtype, runtime, threads, neighbours


def _settings(records: Any) -> dict[tuple[Any, ...], Setting]:
    entries: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for record in records:
        for entry in record["speed"]:
            if timed(entry):
                entries.setdefault(place(entry), entry)
    labels = speed_labels(list(entries.values()))
    return {
        where: Setting(label, entry["workload"], setting(entry))
        for (where, entry), label in zip(entries.items(), labels, strict=True)
    }


def _scopes(
    groups: Sequence[Group], unfinished: Sequence[tuple[Record, Flat]]
) -> tuple[list[Scope], list[dict[str, Any]]]:
    """The scopes, the one with the most runs first, and what the page shows of each. Runs that did
    not finish belong to the scopes of their model, data set and task; one of their own if nothing
    else is there."""
    cut: Counter[tuple[Any, ...]] = Counter()
    for record, config in unfinished:
        names = (record["choices"][name] for name in ("model", "dataset", "task"))
        cut[*names, (*model_of(config), *data_of(config))] += 1
    members: dict[Scope, list[Group]] = {}
    for group in groups:
        members.setdefault(group.scope, []).append(group)
    told_of: dict[Scope, dict[str, Any]] = {}
    for scope, several in members.items():
        lost = cut.pop((scope.model, scope.dataset, scope.task, scope.keys), 0)
        verdict = overview.verdict(scope, several, lost)
        told_of[scope] = {
            "runs": sum(len(group.places) for group in several),
            "headline": verdict.headline,
            "tone": verdict.tone,
            "details": verdict.details,
            "best": verdict.best and groups.index(verdict.best),
        }
    for (model, dataset, task, keys), lost in cut.items():
        told_of[Scope(model, dataset, task, "", "max", "test", keys)] = {
            "runs": 0,
            "headline": f"Nothing is finished yet; {lost} failed or were cut.",
            "tone": "open",
            "details": ["They are listed below, each with its error."],
            "best": None,
        }
    scopes = sorted(told_of, key=lambda s: (-told_of[s]["runs"], s.dataset, s.model, str(s.keys)))
    extra = apart(scopes)
    shown = []
    for scope in scopes:
        own = asdict(scope)
        del own["keys"]
        shown.append({**own, "apart": extra[scope], **told_of[scope]})
    return scopes, shown


def _group(
    group: Group, scopes: Sequence[Scope], settings: Mapping[tuple[Any, ...], Setting]
) -> dict[str, Any]:
    found = {}
    if group.method != "none":
        labels = [setting.label for setting in settings.values()]
        for label, ups in speed_ups(group.seeds)[0].items():
            found[str(labels.index(label))] = {"speed_up": ups, "told": speed_up(**ups)}
    return {
        "label": group.label,
        "scope": scopes.index(group.scope),
        "members": group.places,
        "speed": found,
    }


def _finished(
    record: Record, settings: Mapping[tuple[Any, ...], Setting], layers: Shared
) -> dict[str, Any]:
    places = {key: n for n, key in enumerate(settings)}
    speed = []
    for entry in record["speed"]:
        if not timed(entry):
            speed.append(entry)
            continue
        up = entry["speed_up"]
        speed.append(
            {
                "setting": places[place(entry)],
                "told": speed_up(**up),
                "speed_up": {name: curves.short(value) for name, value in up.items()},
                **{side: _times(entry[side]) for side in ("compressed", "dense")},
            }
        )
    rows = record["layers"]
    attention = any(_attends(layer) for layer in rows)
    return {
        "metric": record["quality"]["primary"],
        "direction": record["quality"]["direction"],
        "quality": {side: record["quality"][side] for side in ("dense", "compressed")},
        "budget": record["budget"],
        "size": record["size"],
        "compute": {**record["compute"], **saved(record["compute"])},
        "speed": speed,
        "stages": [_stage(stage) for stage in record["stages"]],
        "checks": record["checks"],
        "artifacts": [{**each, "sha256": each["sha256"][:12]} for each in record["artifacts"]],
        "layers": layers.place([_layer(layer) for layer in rows]),
        "density": [round(layer["density"], 4) for layer in rows],
        # attention's products have no weight that could have bits
        "bits": [None if _attends(layer) else round(layer["bits"], 3) for layer in rows],
        **({"tiles": [layer.get("block_density") for layer in rows]} if attention else {}),
    }


def _attends(layer: Record) -> bool:
    return layer.get("dense_macs") is not None


def _layer(layer: Record) -> dict[str, Any]:
    told = {name: layer[name] for name in LAYER}
    return {**told, "dense_macs": layer["dense_macs"]} if _attends(layer) else told


def _stage(stage: Record) -> dict[str, Any]:
    alone, series = by_layer(stage.get("figures", {}))
    return {
        **stage,
        "figures": {name: curves.short(value) for name, value in alone.items()},
        "series": {kind: [curves.short(v) for v in each] for kind, each in series.items()},
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
    return {key: plain(value) for key, value in flat(found).items()}
