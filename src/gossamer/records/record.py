"""The record that a run leaves: its schema, validated on write and on read. docs/records.md says
what each field means.

A schema is plain data: a type; a frozenset of allowed words; `[schema]` for a list; `{str: schema}`
for a mapping with free keys; a dict of names for an object with exactly these; a tuple for
alternatives.
"""

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.errors import ResumeError, StageError

SCHEMA = 2

NUMBER = (int, float)
METRICS = {str: (int, float, None)}  # None: the value was not finite
TIMES = {
    "p50": NUMBER,  # ms
    "p95": NUMBER,  # ms
    "throughput": NUMBER,  # samples per second
    "peak_memory_bytes": (int, None),
}
HEAD = {
    "schema": int,
    "id": str,
    "name": str,
    "status": frozenset({"done", "failed", "preempted"}),
    "started": str,
    "finished": str,
    "seed": int,
    "overrides": [str],
    "config_digest": str,
    "git": {"commit": (str, None), "dirty": (bool, None)},
    "host": str,
    "device": str,
    "versions": {str: (str, None)},
    "choices": {"model": str, "dataset": str, "task": str, "compression": [str]},
    "sweep": (str, None),  # the sweep that ran it, by the name of its folder
    "config": Mapping,  # the resolved configuration, without secrets
}
UNFINISHED = {**HEAD, "error": str}
DONE = {
    **HEAD,
    "budget": {
        "start": frozenset({"init", "pretrained", "trained"}),
        "base": int,
        "steps": int,
        "unspent": int,
        "twin": [int],
        "total": int,
        "pair_equal": bool,
        "teacher_passes": int,
        "twin_export": str,
    },
    "stages": [
        {
            "name": str,
            "seconds": NUMBER,
            "steps": int,
            "trainable_parameters": int,
            "teacher_passes": int,
            "quality_before": METRICS,
            "quality_after": METRICS,
        }
    ],
    "quality": {
        "dense": METRICS,
        "compressed": METRICS,
        "primary": str,
        "direction": frozenset({"max", "min"}),
        "split": frozenset({"test"}),
        # one value per test row, by name; the files are relative to the run; None: not kept
        "predictions": {"dense": (str, None), "compressed": (str, None)},
    },
    "size": {
        "parameters": int,
        "dense_parameters": int,
        "trainable_parameters": int,
        "nonzero_parameters": int,
        "bits_per_weight": (int, float, None),  # None: no layer was compressed
        "checkpoint_bytes": int,
        "dense_checkpoint_bytes": int,
        "state_bytes": int,
    },
    "compute": {
        "macs_dense": int,
        "macs_effective": int,
        "macs_nonzero": int,
        "counted_by": str,
        "workload": str,
        "modelled": (None, {"by": str, "figure": (int, float, str)}),
    },
    "speed": [
        (
            {
                "workload": str,
                "device": str,
                "dtype": str,
                "runtime": str,
                "threads": (int, None),
                "neighbours": (int, None),  # other jobs of the sweep on this machine; None: unknown
                "warmup": int,  # calls of each model before the timed ones
                "repeats": int,  # timed calls of each
                "speed_up": {"p50": NUMBER, "low": NUMBER, "high": NUMBER},  # dense / compressed
                "compressed": TIMES,
                "dense": TIMES,
            },
            {"workload": str, "skipped": str},
        )
    ],
    "layers": [
        {
            "name": str,
            "shape": [int],
            "pattern": str,
            "target": (int, float, None),
            "density": NUMBER,
            "bits": NUMBER,
            "macs": int,
            "state_bytes": int,
            "changed": bool,
            "skipped": (str, None),
            "method": (str, None),
        }
    ],
    "checks": [{"name": str, "passed": bool, "figure": str}],
    "artifacts": [{"path": str, "bytes": int, "sha256": str}],
}


def problems(record: Any) -> list[str]:
    """What keeps `record` from being a valid record, one line per field; [] if nothing does."""
    if not isinstance(record, Mapping) or not {"schema", "status"} <= record.keys():
        return ["not a record: it has no schema and no status"]
    if record["schema"] != SCHEMA:
        return [f"schema: {record['schema']!r}, but this version of gossamer knows {SCHEMA}"]
    return _mismatches(record, DONE if record["status"] == "done" else UNFINISHED, "")


def write(path: str | Path, record: Mapping[str, Any]) -> None:
    """Validate and write `record` as JSON, whole or not at all.

    Metrics that are not finite become null. Raises ValueError naming every wrong field (a bug of
    the caller), and StageError if the disk refuses."""
    plain = _finite(record)
    found = problems(plain)
    if found:
        raise ValueError(f"{path}: invalid record:\n" + "\n".join(found))
    write_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def read(path: str | Path) -> dict[str, Any]:
    """A valid record. Raises ResumeError, which names the file, for anything else."""
    advice = "delete it to run again, or restore it from a copy"
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResumeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ResumeError(f"{path}: damaged, no JSON ({error}); {advice}") from error
    found = problems(record)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ResumeError(f"{path}: not a record of this version: {found[0]}{more}; {advice}")
    return record


def write_text(path: str | Path, text: str) -> None:
    """Replace the file at `path` by `text`, whole or not at all; StageError if the disk refuses."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise refused(path, error) from error


def refused(path: str | Path, error: OSError) -> StageError:
    """The one line that a person sees when the disk refuses a write."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else (error.strerror or str(error))
    return StageError(
        f"{path}: could not be written: {reason}. What was saved before is intact: make room, "
        "then run the same command again"
    )


def _finite(value: Any) -> Any:
    """Plain JSON values: tuples become lists, and NaN and infinities None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _mismatches(value: Any, schema: Any, where: str) -> list[str]:
    if isinstance(schema, tuple):
        found = []
        for option in schema:
            found.append(_mismatches(value, option, where))
            if not found[-1]:
                return []
        if all(isinstance(option, type) or option is None for option in schema):
            return [f"{where}: {value!r:.60} is not {' or '.join(map(_title, schema))}"]
        return min(found, key=len)
    if isinstance(schema, dict):
        return _object(value, schema, where)
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{where}: {value!r:.60} is not a list"]
        return [
            line
            for place, item in enumerate(value)
            for line in _mismatches(item, schema[0], f"{where}[{place}]")
        ]
    if isinstance(schema, frozenset):
        good = isinstance(value, str) and value in schema
        return [] if good else [f"{where}: {value!r:.60} is not {' or '.join(sorted(schema))}"]
    if schema is None:
        good = value is None
    else:  # a bool is an int in Python, but not here
        good = isinstance(value, schema) and (schema is bool or not isinstance(value, bool))
    return [] if good else [f"{where}: {value!r:.60} is not {_title(schema)}"]


def _object(value: Any, schema: dict[Any, Any], where: str) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{where}: {value!r:.60} is not an object"]
    prefix = f"{where}." if where else ""
    if str in schema:
        pairs = [(name, schema[str]) for name in value]
        found = [f"{prefix}{name}: not a word" for name in value if not isinstance(name, str)]
    else:
        pairs = [(name, inner) for name, inner in schema.items() if name in value]
        found = [f"{prefix}{name}: missing" for name in schema if name not in value]
        found += [f"{prefix}{name}: no such field" for name in value if name not in schema]
    for name, inner in pairs:
        found += _mismatches(value[name], inner, f"{prefix}{name}")
    return found


def _title(kind: Any) -> str:
    return (
        "null"
        if kind is None
        else {"str": "text", "bool": "true/false"}.get(kind.__name__, kind.__name__)
    )
