"""Texts and labels out of parquet files and hub data sets, with errors for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.data.info import SPLITS
from gossamer.data.splits import HIDDEN, Split
from gossamer.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def read_folder(path: str, names: Mapping[str, str] | None = None) -> dict[str, Dataset]:
    """split -> table, from `<split>.parquet` or the shards `<split>-*.parquet` (also under data/).

    Args:
        names: split -> the file's name for it where that differs (e.g. validation_matched).

    Raises:
        DataError: no such folder, no training split, or a file that is not parquet.
    """
    import pyarrow.parquet as parquet
    from datasets import Dataset
    from pyarrow import ArrowInvalid, concat_tables

    tables = {}
    for split, files in split_files(path, names).items():
        try:
            # not load_dataset: that would leave a copy of everything in a cache elsewhere
            tables[split] = Dataset(concat_tables([parquet.read_table(file) for file in files]))
        except (ArrowInvalid, OSError) as error:
            raise DataError(f"{files[0]}: not a parquet file that can be read ({error})") from error
    if "train" not in tables:
        raise lacking("path", path, "train.parquet")
    return tables


def split_files(
    path: str, names: Mapping[str, str] | None = None, key: str = "path"
) -> dict[str, list[Path]]:
    """split -> its parquet files in `path`, for the splits that are there.

    Args:
        names: as in `read_folder`.
        key: the data set's argument that names the folder.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"dataset.{key}={path}: no such folder; give one with train.parquet in it")
    found = {}
    for split in SPLITS:
        stem = (names or {}).get(split, split)
        whole = [folder / f"{stem}.parquet", folder / f"{split}.parquet"]
        files = [file for file in whole if file.is_file()][:1] or sorted(
            [*folder.glob(f"{stem}-*.parquet"), *folder.glob(f"data/{stem}-*.parquet")]
        )
        if files:
            found[split] = files
    return found


def lacking(key: str, path: str, wanted: str) -> DataError:
    """The error for a folder in which no `wanted` was found."""
    there = ", ".join(sorted(file.name for file in Path(path).expanduser().iterdir())[:8])
    return DataError(f"dataset.{key}={path}: no {wanted}; the folder holds {there or 'nothing'}")


def read_texts(name: str, split: str, table: Dataset, column: str) -> list[str]:
    """A column of texts; a DataError if it is missing, not text, or has empty cells."""
    check_column(name, split, column, table.column_names)
    return list(only_texts(name, split, column, table[column][:]))


def check_column(name: str, split: str, column: str, columns: Sequence[str]) -> None:
    """A DataError if `column` is none of the `columns`."""
    if column not in columns:
        close = get_close_matches(column, columns, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the columns are {list(columns)}"
        raise DataError(f"{name}: the {split} split has no column {column!r}; {hint}")


def only_texts(name: str, split: str, column: str, values: Iterable[object]) -> Iterator[str]:
    """The same values; a DataError at the first one that is not text."""
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(
                f"{name}: {split} row {row}, column {column!r} holds {value!r}, which is not text"
            )
        yield value


def read_splits(
    name: str, tables: Mapping[str, Dataset], text: str, pair: str | None, label: str
) -> tuple[dict[str, Split], tuple[str, ...] | None]:
    """(splits, classes). Labels become class indices; classes are None where labels are scores.

    Class names come from the file's ClassLabel feature, else they are the distinct values that
    occur in training, in order. A missing label counts as hidden.
    """
    labels, classes = read_labels(name, tables, label)
    splits = {}
    for split, table in tables.items():
        splits[split] = Split(
            read_texts(name, split, table, text),
            None if pair is None else read_texts(name, split, table, pair),
            labels[split],
        )
    return splits, classes


def read_labels(
    name: str, tables: Mapping[str, Dataset], label: str
) -> tuple[dict[str, list[int] | list[float]], tuple[str, ...] | None]:
    """({split: labels}, classes), as in `read_splits`."""
    columns = {split: _labels(name, split, table, label) for split, table in tables.items()}
    if not columns["train"]:  # of what kind are the labels of no row?
        raise DataError(f"{name}: the train split is empty")
    classes = _classes(name, tables["train"], label, columns["train"])
    named = getattr(tables["train"].features[label], "names", None) is not None
    return {
        split: _indices(name, split, values, classes, named) for split, values in columns.items()
    }, classes


def _labels(name: str, split: str, table: Dataset, label: str) -> list:
    if label not in table.column_names:
        raise DataError(
            f"{name}: the {split} split has no column {label!r}; "
            f"the columns are {table.column_names}"
        )
    return [HIDDEN if value is None else value for value in table[label][:]]


def _classes(name: str, table: Dataset, label: str, values: list) -> tuple[str, ...] | None:
    names = getattr(table.features[label], "names", None)
    if names is not None:
        return tuple(names)
    found = {value for value in values if value != HIDDEN}
    kinds = {type(value) for value in found}
    if kinds <= {float}:
        return None
    if len(kinds) > 1 or not kinds <= {int, str, bool}:
        raise DataError(
            f"{name}: column {label!r} holds {sorted(kind.__name__ for kind in kinds)}: labels are "
            f"all integers, all strings, or (for regression) all floats"
        )
    return tuple(str(value) for value in sorted(found))


def _indices(
    name: str, split: str, values: list, classes: tuple[str, ...] | None, named: bool
) -> list[int] | list[float]:
    if classes is None or named:
        bad = [v for v in values if not isinstance(v, (int, float) if classes is None else int)]
        if bad:
            raise DataError(f"{name}: the {split} split has the label {bad[0]!r} among numbers")
        return values
    index = {text: position for position, text in enumerate(classes)}
    indices = []
    for row, value in enumerate(values):
        if value != HIDDEN and str(value) not in index:
            known = ", ".join(classes[:8])
            raise DataError(
                f"{name}: {split} row {row} has the label {value!r}, which never occurs in "
                f"training (there: {known}{', …' if len(classes) > 8 else ''})"
            )
        indices.append(HIDDEN if value == HIDDEN else index[str(value)])
    return indices
