"""Columns of text that are read piece by piece: parquet files, hub data sets, joined rows.

Each can be iterated again and again, and none is ever whole in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.data.tables import check_column, only_texts
from gossamer.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

LONGEST = 16_000_000  # characters of a joined document: what tokenizers still hold in memory
ROWS = 1000  # that are read together


@dataclass(frozen=True)
class ParquetColumn:
    """The texts of a column of parquet files, in the order of the files.

    Raises (while iterated):
        DataError: a file is not parquet or damaged, the column is missing, a cell is not text.
    """

    name: str  # of the data set, in messages
    split: str
    files: tuple[Path, ...]
    column: str

    def __iter__(self) -> Iterator[str]:
        return only_texts(self.name, self.split, self.column, self._cells())

    def _cells(self) -> Iterator[object]:
        import pyarrow.parquet as parquet
        from pyarrow import ArrowException

        for file in self.files:
            try:
                with parquet.ParquetFile(file, page_checksum_verification=True) as table:
                    check_column(self.name, self.split, self.column, table.schema_arrow.names)
                    for batch in table.iter_batches(ROWS, columns=[self.column]):
                        yield from batch.column(0).to_pylist()
            except (ArrowException, OSError) as error:
                reason = str(error).splitlines()[0]
                raise DataError(
                    f"{file}: not a parquet file that can be read ({reason})"
                ) from error


@dataclass(frozen=True)
class TableColumn:
    """The texts of a column of a hub data set that lies on this machine."""

    name: str
    split: str
    table: Dataset
    column: str

    def __iter__(self) -> Iterator[str]:
        check_column(self.name, self.split, self.column, self.table.column_names)
        batches = self.table.select_columns([self.column]).iter(ROWS)
        cells = (cell for batch in batches for cell in batch[self.column])
        return only_texts(self.name, self.split, self.column, cells)


@dataclass(frozen=True)
class First:
    """The first `count` texts of a column; all if `count` is None."""

    texts: Iterable[str]
    count: int | None

    def __iter__(self) -> Iterator[str]:
        return islice(self.texts, self.count)


@dataclass(frozen=True)
class Joined:
    """Rows joined into one document; into several of 16 million characters if they are longer,
    which only training splits are."""

    texts: Iterable[str]
    glue: str

    def __iter__(self) -> Iterator[str]:
        rows: list[str] = []
        characters = 0
        for text in self.texts:
            if rows and characters + len(text) > LONGEST:
                yield self.glue.join(rows)
                rows, characters = [], 0
            rows.append(text)
            characters += len(text) + len(self.glue)
        if rows:
            yield self.glue.join(rows)


def joined(texts: Iterable[str], glue: str | None) -> Iterable[str]:
    return texts if glue is None else Joined(texts, glue)
