"""One process at a time: at a run, at a sweep, at a study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gossamer.errors import GossamerError
from gossamer.records.record import refused


@contextmanager
def alone(file: Path, taken: GossamerError, timeout: float = 0) -> Iterator[None]:
    """Hold the lock `file`, in a folder that is made if need be, while the block lasts; the system
    frees it when the process dies.

    Raises `taken` if somebody else has it for `timeout` seconds (-1: wait for ever), and StageError
    if the disk refuses."""
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise taken from error
    except OSError as error:
        raise refused(file.parent, error) from error
    try:
        yield
    finally:
        lock.release()
