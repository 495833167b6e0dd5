"""Runs that several tests look at are made once, also when xdist's workers ask at the same time."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pytest
from filelock import FileLock
from pyarrow import parquet

from tests.runs import commands
from tests.runs.commands import DOCSTRINGS, LANGUAGE, MODEL, SMALL, TRAINER, VISION


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id) -> Path:
    """One folder for all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "runs"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(shared: Path, *words: str) -> "Done":
    """The finished run of `gossamer words…` under `shared`, made if nobody did so before."""
    note = shared / f"{zlib.crc32(' '.join(words).encode())}.out"
    with FileLock(note.with_suffix(".lock")):
        if not note.exists():
            ended = commands.gossamer(*words, cwd=shared)
            assert ended.status == 0, ended.err
            note.write_text(ended.out)
    (line,) = [one for one in note.read_text().splitlines() if one.startswith("record ")]
    return Done((shared / line.split(maxsplit=1)[1]).parent, note.read_text())


@pytest.fixture(scope="session")
def finished(shared):
    """(words…) -> the finished run of `gossamer DOCSTRINGS words…`, made once."""
    return lambda *words: made_once(shared, *DOCSTRINGS, *words)


@pytest.fixture(scope="session")
def finished_language(shared):
    """(words…) -> the finished run of `gossamer LANGUAGE words…`, made once."""
    return lambda *words: made_once(shared, *LANGUAGE, *words)


@pytest.fixture(scope="session")
def finished_vision(shared):
    """(words…) -> the finished run of `gossamer VISION words…`, made once."""
    return lambda *words: made_once(shared, *VISION, *words)


@dataclass(frozen=True)
class Done:
    """A finished run, and what its command printed."""

    directory: Path
    out: str


@pytest.fixture(scope="session")
def folder(shared) -> Path:
    """A text_folder of three splits, 48 + 12 + 12 rows in three classes."""
    place = shared / "folder"
    with FileLock(shared / "folder.lock"):
        if not place.exists():
            place.mkdir()
            for split, rows in (("train", 48), ("validation", 12), ("test", 12)):
                write_split(place, split, rows)
    return place


def write_split(place: Path, split: str, rows: int, **columns) -> None:
    own = {
        "text": [f"{split} {row} {'abc'[row % 3]} word {'abc'[row % 3]}" for row in range(rows)],
        "label": ["abc"[row % 3] for row in range(rows)],
    }
    parquet.write_table(pyarrow.table(own | columns), place / f"{split}.parquet")


@pytest.fixture
def words(folder) -> tuple[str, ...]:
    """The overrides of a run on `folder`."""
    return (*MODEL, *TRAINER, "dataset=text_folder", f"dataset.path={folder}", *SMALL)
