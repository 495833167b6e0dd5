"""What was read from a stream is kept on disk: read once, by one process, the same for all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock

from gossamer.data.columns import ROWS, ParquetColumn
from gossamer.data.info import SPLITS
from gossamer.data.tables import check_column, only_texts
from gossamer.errors import DataError

FACTS = "facts.json"  # written last: without it, a copy does not count


def copied(
    name: str,
    opened: Callable[[], Mapping[str, Iterable[dict[str, Any]]]],
    most: Mapping[str, int | None],
    column: str,
    folder: Path,
    key: tuple[str, ...],
) -> dict[str, Iterable[str]]:
    """split -> the first `most[split]` texts of a stream, from a copy that is made now if nobody
    made it before.

    Args:
        opened: opens the stream: split -> rows (dicts). Not called if there is a copy.
        folder: where copies are kept, under a digest of `key` and `most`.
    """
    words = json.dumps([key, [most[split] for split in SPLITS]])
    place = folder / hashlib.sha256(words.encode()).hexdigest()[:32]
    splits = _whole(place)
    if splits is None:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{name}: no folder can be made in {folder} ({error.strerror}); type "
                f"dataset.cache=FOLDER, with another folder"
            ) from error
        with FileLock(place.with_suffix(".lock")):
            splits = _whole(place)  # another process may have made it while this one waited
            if splits is None:
                splits = _copy(name, opened(), most, column, place)
    return {
        split: ParquetColumn(name, split, (place / f"{split}.parquet",), column) for split in splits
    }


def _whole(place: Path) -> list[str] | None:
    """The splits of a copy that is as it was written, by its files' sizes; the pages of the files
    have checksums of their own."""
    try:
        sizes = json.loads((place / FACTS).read_text())
        same = all((place / f"{split}.parquet").stat().st_size == sizes[split] for split in sizes)
        return list(sizes) if same else None
    except (OSError, ValueError, TypeError):
        return None


def _copy(
    name: str,
    stream: Mapping[str, Iterable[dict[str, Any]]],
    most: Mapping[str, int | None],
    column: str,
    place: Path,
) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    shutil.rmtree(place)
    place.mkdir()
    schema = pa.schema([(column, pa.string())])
    sizes = {}
    for split in SPLITS:
        if split not in stream:
            continue
        file = place / f"{split}.parquet"
        texts = _texts(name, split, column, islice(stream[split], most[split]))
        with parquet.ParquetWriter(
            file, schema, compression="zstd", write_page_checksum=True
        ) as out:
            while rows := list(islice(texts, ROWS)):
                out.write_table(pa.table({column: rows}, schema))
        sizes[split] = file.stat().st_size
    draft = place / f"{FACTS}.draft"
    draft.write_text(json.dumps(sizes))
    draft.replace(place / FACTS)
    return list(sizes)


def _texts(name: str, split: str, column: str, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    def cells() -> Iterator[object]:
        for row in rows:
            check_column(name, split, column, list(row))
            yield row[column]

    return only_texts(name, split, column, cells())
