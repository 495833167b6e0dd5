"""The records below some paths: run folders, whatever holds them, and sweeps, whose runs lie
elsewhere.

Runs may still be written meanwhile. A record is replaced whole, so what is read is always one of
its versions; what vanishes between being listed and being read was not there.
"""

import gc
import json
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from gossamer.errors import ResumeError
from gossamer.records.record import read
from gossamer.records.schema import SCHEMA, Skimmed, Unfinished

RECORD, SWEEP = "record.json", "sweep.json"
ASIDE = frozenset({"export", "state", "wandb"})  # folders of a run that hold no record
SKIM, UNFINISHED = msgspec.json.Decoder(Skimmed), msgspec.json.Decoder(Unfinished)

T = TypeVar("T")


@dataclass
class Found(Generic[T]):
    """What lies below some paths. T is a record: a dict, or a skimmed one."""

    records: dict[Path, T] = field(default_factory=dict)  # finished runs
    unfinished: dict[Path, Any] = field(default_factory=dict)  # failed or preempted ones
    notes: list[str] = field(default_factory=list)  # what was left out, and why


def find(paths: Iterable[str | Path]) -> Found[dict[str, Any]]:
    """Every record at or below `paths`, as a dict, whole. Damaged files, repeated runs and a
    sweep's jobs without a record become notes."""
    return _find(paths, read, operator.getitem)


def skim(paths: Iterable[str | Path]) -> Found[Skimmed]:
    """The same records without the parts that no comparison reads, several times faster."""
    with uncollected():
        return _find(paths, _skimmed, getattr)


def unfinished_lines(found: Found[Any]) -> list[str]:
    """A count of the runs that failed or were cut, then one line for each, skimmed."""
    counts = Counter(record.status for record in found.unfinished.values())
    head = [", ".join(f"{n} {status}" for status, n in sorted(counts.items()))] if counts else []
    return head + [
        f"{record.status}: {path}: {record.error}" for path, record in found.unfinished.items()
    ]


def _find(
    paths: Iterable[str | Path],
    load: Callable[[str | Path], Any],
    get: Callable[[Any, Any], Any],
) -> Found[Any]:
    found: Found[Any] = Found()
    newest: dict[str, Path] = {}
    for path in _files(paths, found.notes):
        try:
            record = load(path)
        except ResumeError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                found.notes.append(f"left out: {error}")
            continue
        if get(record, "status") != "done":
            found.unfinished[path] = record
            continue
        run = get(record, "id")  # of what was computed: the configuration's digest and the seed
        other = newest.get(run)
        if other is not None and other != path:
            new = get(record, "finished") > get(found.records[other], "finished")
            old, path = (other, path) if new else (path, other)
            found.records.pop(old, None)
            found.notes.append(f"left out: {old}: the same run as {path}, which is newer or equal")
            if not new:
                continue
        newest[run] = path
        found.records[path] = record
    return found


def _skimmed(path: str | Path) -> Skimmed | Unfinished:
    try:
        with open(path, "rb") as file:
            record = SKIM.decode(str(file.read(), "utf-8"))  # bytes would pass in what is not read
        if record.schema == SCHEMA and record.status == "done":
            return record
    except (OSError, UnicodeError, msgspec.DecodeError, RecursionError):
        pass  # a run that is not done, or read() says what is wrong
    whole = read(path)
    return (SKIM if whole["status"] == "done" else UNFINISHED).decode(msgspec.json.encode(whole))


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collections, which would walk over every record read so far, again and again:
    half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _files(paths: Iterable[str | Path], notes: list[str]) -> list[Path]:
    """Each record file once, under the first name that leads to it."""
    files: dict[tuple[int, int], Path] = {}
    for name in _names(paths, notes):
        try:
            told = os.stat(name)
        except OSError:  # vanished since it was listed
            continue
        files.setdefault((told.st_dev, told.st_ino), Path(name))
    return list(files.values())


def _names(paths: Iterable[str | Path], notes: list[str]) -> Iterator[str]:
    for path in paths:
        path = os.path.normpath(path)
        if os.path.isfile(path):
            yield path
        for folder, inner, names in os.walk(path):
            inner[:] = sorted(name for name in inner if name not in ASIDE)
            if RECORD in names:
                yield os.path.join(folder, RECORD)
            if SWEEP in names:
                yield from _of_sweep(Path(folder), notes)


def _of_sweep(folder: Path, notes: list[str]) -> Iterator[str]:
    """The record files of a sweep's jobs. How many have none yet becomes a note."""
    try:
        runs = run_folders(folder)
    except ResumeError as error:
        notes.append(f"left out: {error}")
        return
    there = [name for run in runs if os.path.exists(name := os.path.join(run, RECORD))]
    yield from there
    if missing := len(runs) - len(there):
        notes.append(f"not finished: {missing} of {len(runs)} jobs of {folder} have no record yet")


def run_folders(sweep: Path) -> list[Path]:
    """Where the runs of a sweep are, in the order of its jobs. Raises ResumeError.

    The manifest says where they were written. If the outputs were moved or copied since, they are
    where the sweep's own folder is: <outputs>/sweeps/<id> beside <outputs>/<name>/<digest>/<seed>.
    """
    try:
        manifest = json.loads((sweep / SWEEP).read_text(encoding="utf-8"))
        written = [Path(manifest.get("cwd", ""), job["directory"]) for job in manifest["jobs"]]
    except OSError as error:
        raise ResumeError(f"{sweep / SWEEP}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ResumeError(f"{sweep / SWEEP}: damaged; start the sweep again, which keeps what is "
                          "done") from error  # fmt: skip
    outputs = Path(os.path.normpath(sweep / ".." / ".."))
    return [_moved(outputs, place) for place in written]


def _moved(outputs: Path, written: Path) -> Path:
    """The run below `outputs` if it is there (a name may have several parts), else as written."""
    for count in range(3, len(written.parts)):
        if (inside := outputs.joinpath(*written.parts[-count:])).is_dir():
            return inside
    return written
