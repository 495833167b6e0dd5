"""The record that a run leaves, validated on write and on read (schema.py says by what)."""

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gossamer.errors import ResumeError, StageError
from gossamer.records.schema import SCHEMA, problem


def problems(record: Any) -> list[str]:
    """What keeps `record` from being a valid record, in a line that names the field; [] if nothing
    does."""
    if not isinstance(record, Mapping) or not {"schema", "status"} <= record.keys():
        return ["not a record: it has no schema and no status"]
    if record["schema"] != SCHEMA:
        return [f"schema: {record['schema']!r}, but this version of gossamer knows {SCHEMA}"]
    found = problem(dict(record))
    return [found] if found else []


def write(path: str | Path, record: Mapping[str, Any]) -> None:
    """Validate and write `record` as JSON, whole or not at all.

    Metrics that are not finite become null. Raises ValueError naming a wrong field (a bug of the
    caller), and StageError if the disk refuses."""
    plain = _finite(record)
    found = problems(plain)
    if found:
        raise ValueError(f"{path}: invalid record:\n" + "\n".join(found))
    write_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def read(path: str | Path) -> dict[str, Any]:
    """A valid record. Raises ResumeError, which names the file, for anything else."""
    delete = "delete it to run again, or restore it from a copy"
    again = "read it with the version that wrote it, or run again with rerun=true"
    try:
        record = msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise ResumeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ResumeError(f"{path}: damaged, no JSON ({error}); {delete}") from error
    if found := problems(record):
        version = record.get("schema", SCHEMA) if isinstance(record, dict) else SCHEMA
        advice = again if isinstance(version, int) and version != SCHEMA else delete
        raise ResumeError(f"{path}: not a record of this version: {found[0]}; {advice}")
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
