"""A finished run as the comparison sees it: keys that were chosen, and figures that came out.

Keys: model, dataset, task and compression (the choices; methods joined by +), seed, sweep, and
every key of the resolved configuration by its dotted name (trainer.lr). Figures: the test metrics
by name, the primary one also as "quality", and the ledgers' as size.…, compute.…, budget.… and
speed.<workload>.<figure>.
"""

import difflib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from gossamer.errors import ConfigError
from gossamer.records.schema import Skimmed
from gossamer.records.table import SETTING, speed_labels

Key = str | int | float | bool | None
Identity = tuple[tuple[str, Key], ...]  # names and values that must all be equal
CHOICES = ("model", "dataset", "task", "compression")
TIMED = ("p50", "p95", "throughput", "peak_memory_bytes")  # of the compressed model
LEDGERS = {
    "size": (
        "parameters",
        "dense_parameters",
        "trainable_parameters",
        "nonzero_parameters",
        "bits_per_weight",
        "checkpoint_bytes",
        "dense_checkpoint_bytes",
        "state_bytes",
        "format_bytes",
        "dense_format_bytes",
    ),
    "compute": (
        "macs_dense",
        "macs_effective",
        "macs_nonzero",
        "bit_operations",
        "bit_operations_dense",
        "attention_macs",
        "attention_macs_dense",
        "attention_saved",
        "attention_saved_of_model",
        "attention_density",
        "attention_block_density",
    ),
    "budget": ("base", "steps", "unspent", "total", "teacher_passes", "tokens"),
}
# Keys of a data set that only say how its rows are cut, batched and kept, not which they are.
BATCHING = frozenset(f"dataset.{n}" for n in ("batch_size", "max_length", "workers", "cache"))
SAVED = ("compute.attention_saved", "compute.attention_saved_of_model")  # shares: more is better
# Metrics of which less is better; of all others, more.
LOWER = ("loss", "mse", "perplexity", "bits_per_byte", "ece")


@dataclass(eq=False)
class Run:
    path: Path  # of its record
    record: Skimmed
    speed: Mapping[str, Mapping[str, Any]]  # label of workload and setting -> its timed entry

    @property
    def methods(self) -> list[str]:
        """In order; [] for a dense run."""
        return [name for name in self.record.choices.compression if name != "none"]

    @cached_property
    def keys(self) -> dict[str, Key]:
        choices = self.record.choices
        return {
            **flat(msgspec.json.decode(self.record.config)),
            "model": choices.model,
            "dataset": choices.dataset,
            "task": choices.task,
            "compression": "+".join(self.methods) or "none",
            "seed": self.record.seed,
            "sweep": self.record.sweep,
        }

    @cached_property
    def data(self) -> Identity:
        return data_of(self.keys)

    @cached_property
    def model(self) -> Identity:
        return model_of(self.keys)

    def figure(self, name: str) -> float | None:
        """None: the run has no such figure, or it was not finite."""
        part, _, rest = name.partition(".")
        if rest and part in LEDGERS:
            return getattr(getattr(self.record, part), rest)
        if rest and part == "speed":
            label, _, which = rest.rpartition(".")
            entry = self.speed.get(label)
            if entry is None:
                return None
            return entry["speed_up"]["p50"] if which == "speed_up" else entry["compressed"][which]
        return self.record.quality.compressed.get(self.metric(name))

    def twin_figure(self, name: str) -> float | None:
        """The dense twin's test metric; None for a ledger's figure."""
        return self.record.quality.dense.get(self.metric(name))

    def metric(self, name: str) -> str:
        return self.record.quality.primary if name == "quality" else name

    def direction(self, name: str) -> Literal["max", "min"]:
        """Which end of a figure is better."""
        quality = self.record.quality
        if self.metric(name) == quality.primary:
            return quality.direction
        more = name.endswith((".speed_up", ".throughput")) or name in SAVED
        return "min" if name in LOWER or ("." in name and not more) else "max"


def runs(records: Mapping[Path, Skimmed]) -> list[Run]:
    """Runs with their timed workloads, labelled alike in all of them."""
    entries = {place(e): e for record in records.values() for e in record.speed if timed(e)}
    labels = dict(zip(entries, speed_labels(list(entries.values())), strict=True))
    return [
        Run(path, record, {labels[place(e)]: e for e in record.speed if timed(e)})
        for path, record in records.items()
    ]


def timed(entry: Mapping[str, Any]) -> bool:
    return "skipped" not in entry


def place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What must be equal before two latencies may be averaged."""
    return (entry["workload"], *(entry.get(name) for name in SETTING))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Key]:
    """{"a": {"b": 1}} as {"a.b": 1}; a list is one value, as JSON."""
    found: dict[str, Key] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value) if isinstance(value, list) else value
    return found


def data_of(keys: Mapping[str, Any]) -> Identity:
    """Which rows a run saw, by its dotted keys: all that its data set has, but for BATCHING."""
    return _part(keys, "dataset.", without=BATCHING)


def model_of(keys: Mapping[str, Any]) -> Identity:
    """Which dense model a run began with, by its dotted keys: all that its model has."""
    return _part(keys, "model.")


def _part(keys: Mapping[str, Any], prefix: str, without: Container[str] = ()) -> Identity:
    """A null says as much as a key that is not there: versions of the code have more or fewer."""
    return tuple(
        (name, json.dumps(keys[name]) if isinstance(keys[name], list | dict) else keys[name])
        for name in sorted(keys)
        if name.startswith(prefix) and name not in without and keys[name] is not None
    )


def apart(several: Iterable[Identity]) -> str:
    """What identities differ in: "dataset.path (/data/a, /data/b) and dataset.limit (null, 9)"."""
    every = [dict(identity) for identity in several]
    names = dict.fromkeys(name for each in every for name in each)
    values = {name: dict.fromkeys(each.get(name) for each in every) for name in names}
    return " and ".join(f"{n} ({one_of(seen)})" for n, seen in values.items() if len(seen) > 1)


def figure_names(every: Iterable[Run]) -> list[str]:
    """The figures that any of the runs has."""
    metrics: dict[str, None] = {"quality": None}
    labels: dict[str, None] = {}
    for run in every:
        metrics |= dict.fromkeys(run.record.quality.compressed)
        labels |= dict.fromkeys(run.speed)
    ledgers = [f"{ledger}.{name}" for ledger, names in LEDGERS.items() for name in names]
    speeds = [f"speed.{label}.{name}" for label in labels for name in ("speed_up", *TIMED)]
    return [*metrics, *ledgers, *speeds]


def key_names(every: Iterable[Run]) -> list[str]:
    """The keys that any of the runs has, the choices first."""
    names = dict.fromkeys([*CHOICES, "seed"])
    for run in every:
        names |= dict.fromkeys(run.keys)
    return list(names)


def expect(option: str, names: Sequence[str], known: Sequence[str], kind: str) -> None:
    """Raise ConfigError for the first of `names` that no run has, with the nearest one."""
    for name in names:
        if name not in known:
            raise ConfigError(f"{option} {name}: no run has such a {kind}{nearest(name, known)}")


def nearest(name: str, known: Sequence[str]) -> str:
    """ ", did you mean trainer.lr?": known names with the same last part, or spelled alike."""
    leaf = name.rpartition(".")[2]
    close = [each for each in known if each.rpartition(".")[2] == leaf]
    close += difflib.get_close_matches(name, known, n=3)
    short = {each.rpartition(".")[2]: each for each in reversed(known)}
    close += [short[each] for each in difflib.get_close_matches(leaf, short, n=1, cutoff=0.75)]
    close = list(dict.fromkeys(close))[:3]
    return f", did you mean {' or '.join(close)}?" if close else f"; there is {one_of(known)}"


def one_of(values: Iterable[Any], most: int = 8) -> str:
    """ "a, b, c, … (4 more)"."""
    listed = ["null" if value is None else str(value) for value in values]
    more = f", … ({len(listed) - most} more)" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
