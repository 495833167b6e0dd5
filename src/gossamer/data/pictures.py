"""Pictures that stay encoded (JPEG, PNG, …) until a row is asked for, and the splits made of them.

A row costs its encoded bytes, in memory or in a file; decoding is the work of whoever reads it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gossamer.data.info import SPLITS
from gossamer.data.splits import HIDDEN
from gossamer.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

SMALL = 4 << 30  # bytes: what is held in memory, and read once whole to tell rows apart
MODES = {1: "L", 3: "RGB"}  # channels -> PIL's name for them
DEEP = ("I", "F")  # PIL modes of more than 8 bits per channel begin so


class NotAPicture(DataError):
    """A row cannot be decoded. A DataLoader raises a worker's error again with the traceback before
    its text; what people are to read is the last line."""

    def __init__(self, text: str) -> None:
        super().__init__(text.strip().splitlines()[-1].partition("NotAPicture: ")[2] or text)


class Source(Protocol):
    """Where the encoded pictures of one published split are."""

    @property
    def size(self) -> int:
        """Bytes of all rows."""

    @property
    def identity(self) -> str:
        """What tells this source from another one without reading it."""

    def encoded(self, row: int) -> bytes: ...

    def where(self, row: int) -> str:
        """A row, for people."""


@dataclass(frozen=True, eq=False)
class Cells:
    """A column of a table: {bytes, path} as `datasets` stores images, or plain bytes."""

    table: Dataset
    column: str
    name: str  # of data set and split, in messages
    identity: str

    @cached_property
    def _cells(self) -> Any:
        return self.table.data.column(self.column)  # arrow, not the decoded feature

    def __getstate__(self) -> dict[str, Any]:
        # the table knows how to be sent to another process: by its files where it is mapped
        return {name: self.__dict__[name] for name in ("table", "column", "name", "identity")}

    @property
    def size(self) -> int:
        return self._cells.nbytes

    def encoded(self, row: int) -> bytes:
        cell = self._cells[row].as_py()
        if isinstance(cell, Mapping):
            cell, path = cell.get("bytes"), cell.get("path")
            if cell is None and path is not None and Path(path).is_file():
                return Path(path).read_bytes()
        if not isinstance(cell, bytes):
            raise NotAPicture(f"{self.where(row)} holds {cell!r}, which is not a picture")
        return cell

    def where(self, row: int) -> str:
        return f"{self.name} row {row}, column {self.column!r}"


@dataclass(frozen=True, eq=False)
class Files:
    """One file per picture."""

    files: tuple[Path, ...]
    folder: Path

    @cached_property
    def _sizes(self) -> list[int]:
        return [file.stat().st_size for file in self.files]

    @property
    def size(self) -> int:
        return sum(self._sizes)

    @property
    def identity(self) -> str:
        names = [file.relative_to(self.folder).as_posix() for file in self.files]
        return hashlib.sha256(repr((names, self._sizes)).encode()).hexdigest()

    def encoded(self, row: int) -> bytes:
        try:
            return self.files[row].read_bytes()
        except OSError as error:
            raise NotAPicture(f"{self.where(row)} cannot be read ({error.strerror})") from error

    def where(self, row: int) -> str:
        return str(self.files[row])


@dataclass(frozen=True, eq=False)
class Held:
    """Pictures in memory."""

    pictures: tuple[bytes, ...]
    name: str
    identity: str = ""

    @property
    def size(self) -> int:
        return sum(map(len, self.pictures))

    def encoded(self, row: int) -> bytes:
        return self.pictures[row]

    def where(self, row: int) -> str:
        return f"{self.name} row {row}"


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some rows of a source, with a class index each."""

    source: Source
    index: np.ndarray  # (rows,) int64, rows of the source
    labels: list[int]
    digests: np.ndarray | None  # (rows of the source,) 16 bytes each; None: too much to read whole

    @classmethod
    def of(cls, source: Source, labels: list[int]) -> Pictures:
        """All rows of a source."""
        rows = len(labels)
        digests = None
        if source.size <= SMALL:
            found = b"".join(
                hashlib.blake2b(source.encoded(row), digest_size=16).digest() for row in range(rows)
            )
            digests = np.frombuffer(found, "V16")
        return cls(source, np.arange(rows), labels, digests)

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Iterable[int]) -> Pictures:
        chosen = list(rows)
        labels = [self.labels[row] for row in chosen]
        return Pictures(self.source, self.index[chosen], labels, self.digests)

    def keys(self) -> list[tuple[str, ...]]:
        """What makes two rows the same: their bytes if these could be read, else their place."""
        if self.digests is None:
            return [(self.source.where(row),) for row in self.index.tolist()]
        return [(key.tobytes().hex(),) for key in self.digests[self.index]]

    @property
    def hidden(self) -> bool:
        """No row's label is public."""
        return len(self) > 0 and set(self.labels) == {HIDDEN}

    def decoded(self, row: int) -> Image:
        """A row's picture as it was stored. Raises NotAPicture."""
        from PIL import Image, UnidentifiedImageError

        place = int(self.index[row])
        try:
            picture = Image.open(io.BytesIO(self.source.encoded(place)))
            picture.load()
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise NotAPicture(
                f"{self.source.where(place)} is not a picture that can be decoded"
            ) from error
        if picture.mode.startswith(DEEP):
            raise NotAPicture(
                f"{self.source.where(place)} has more than 8 bits per channel (PIL mode "
                f"{picture.mode}); convert it to 8 bits"
            )
        return picture


def grey(picture: Image) -> bool:
    """Has a picture one channel only?"""
    return picture.mode in ("1", "L", "LA")


def digest(splits: Mapping[str, Pictures], classes: tuple[str, ...] | None) -> str:
    """sha256 over classes, pictures and labels of every split, in order. Of a source that is too
    large to be read whole, its identity and the rows stand for the pictures."""
    sha = hashlib.sha256(repr(classes).encode())
    for name in SPLITS:
        split = splits[name]
        sha.update(repr((name, len(split), split.labels)).encode())
        if split.digests is not None:
            sha.update(split.digests[split.index].tobytes())
        else:
            sha.update(split.source.identity.encode() + split.index.tobytes())
    return sha.hexdigest()


def shared_rows(splits: Mapping[str, Pictures]) -> list[str]:
    """A note for each split whose pictures occur again in a later one, byte by byte."""
    notes, later = [], set()
    for name in reversed(SPLITS):
        if splits[name].digests is None:
            return []
        keys = splits[name].keys()
        if count := sum(key in later for key in keys):
            notes.append(f"{count} pictures of {name} occur again in a later split, and stay")
        later.update(keys)
    return notes[::-1]
