"""Pictures and labels out of parquet files, folders of image files, and hub data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.data import pictures
from gossamer.data.info import SPLITS
from gossamer.data.pictures import Cells, Files, Pictures
from gossamer.data.splits import HIDDEN
from gossamer.data.tables import lacking, read_folder, read_labels, split_files
from gossamer.errors import DataError
from gossamer.hub import hub_reachable

if TYPE_CHECKING:
    from datasets import Dataset

Published = tuple[dict[str, Pictures], tuple[str, ...]]  # splits, classes
ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
FOLDERS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
TAIL = 1 << 16  # bytes at a parquet file's end, where its index and checksums are


def read_pictures(
    name: str, path: str, image: Sequence[str], label: Sequence[str], cache: str | None
) -> Published:
    """The splits in a local folder: parquet files, or `<split>/<class>/<picture>`.

    Args:
        image, label: names that the columns may have; the first one that is there counts.
        cache: where files too large for memory are laid out to be mapped; None: the usual place.

    Raises:
        DataError: no such folder, neither layout in it, a file or column that cannot be used.
    """
    files = split_files(path)
    if "train" not in files:
        folder = Path(path).expanduser()
        if any((folder / "train").glob("*/")):
            return _class_folders(name, folder)
        raise lacking("path", path, "train.parquet and no train/<class>/")
    identities = {split: _identity(ones) for split, ones in files.items()}
    if sum(file.stat().st_size for ones in files.values() for file in ones) <= pictures.SMALL:
        return _tables(name, read_folder(path), identities, image, label)
    return _tables(name, _mapped(name, files, cache), identities, image, label)


def hub_pictures(
    name: str,
    source: tuple[str, str | None, str | None],
    image: Sequence[str],
    label: Sequence[str],
    cache: str | None,
) -> Published:
    """The splits of a hub data set, `source` its (id, subset, revision)."""
    import datasets

    hub, subset, revision = source
    if not hub_reachable():
        datasets.config.HF_HUB_OFFLINE = True  # what was fetched before can still be read
    try:
        tables = datasets.load_dataset(hub, subset, revision=revision, cache_dir=cache)
    except Exception as error:  # the hub's clients raise a dozen unrelated types
        raise DataError(
            f"{name}: cannot be read from the hub ({_reason(error)}); or type "
            f"dataset.path=FOLDER with train.parquet, or with train/<class>/"
        ) from error
    found = {split: tables[split] for split in SPLITS if split in tables}
    if "train" not in found:
        raise DataError(f"{name}: no train split; {hub} has {', '.join(map(str, tables))}")
    # the files that were fetched carry the commit in their names
    identities = {
        split: repr((hub, subset, revision, sorted(table.info.download_checksums or ()), split))
        for split, table in found.items()
    }
    return _tables(name, found, identities, image, label)


def _tables(
    name: str,
    tables: Mapping[str, Dataset],
    identities: Mapping[str, str],
    image: Sequence[str],
    label: Sequence[str],
) -> Published:
    column = _column(name, "image", image, tables["train"].column_names)
    answer = _column(name, "label", label, tables["train"].column_names)
    for split, table in tables.items():
        _check_pictures(name, split, table, column)
    labels, classes = read_labels(name, tables, answer)
    if classes is None:
        raise DataError(f"{name}: column {answer!r} holds scores, no classes")
    return {
        split: Pictures.of(
            Cells(table, column, f"{name}: {split}", identities[split]),
            [int(one) for one in labels[split]],
        )
        for split, table in tables.items()
    }, classes


def _column(name: str, key: str, wanted: Sequence[str], there: Sequence[str]) -> str:
    for column in wanted:
        if column in there:
            return column
    raise DataError(
        f"{name}: the train split has no column {' or '.join(map(repr, wanted))}; type "
        f"dataset.{key}= one of its columns, {', '.join(there)}"
    )


def _check_pictures(name: str, split: str, table: Dataset, column: str) -> None:
    import pyarrow as pa

    if column not in table.column_names:
        raise DataError(
            f"{name}: the {split} split has no column {column!r}; its columns are "
            f"{', '.join(table.column_names)}"
        )
    kind = table.data.column(column).type
    plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if not plain and not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        raise DataError(
            f"{name}: column {column!r} of the {split} split holds {kind}, not encoded pictures "
            f"(bytes, or {{bytes, path}} as `datasets` writes them)"
        )


def _identity(files: Sequence[Path]) -> str:
    sha = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL))
            sha.update(repr((file.name, size)).encode() + stream.read())
    return sha.hexdigest()


def _mapped(
    name: str, files: Mapping[str, Sequence[Path]], cache: str | None
) -> Mapping[str, Dataset]:
    """Parquet files that do not fit in memory: laid out once in a cache, and mapped from there."""
    import datasets

    try:
        return datasets.load_dataset(
            "parquet",
            data_files={split: [str(file) for file in ones] for split, ones in files.items()},
            cache_dir=cache,
        )
    except Exception as error:  # of pyarrow, of the disk, of the loader
        raise DataError(
            f"{name}: its parquet files cannot be laid out to be mapped ({_reason(error)}); they "
            f"need as much room again, in dataset.cache=FOLDER"
        ) from error


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _class_folders(name: str, folder: Path) -> Published:
    """`<split>/<class>/<picture>`, the classes being those of train, in alphabetical order."""
    classes = tuple(sorted(each.name for each in (folder / "train").glob("*/")))
    splits = {}
    for split, names in FOLDERS.items():
        place = next((folder / each for each in names if (folder / each).is_dir()), None)
        if place is None:
            continue
        within = sorted(each.name for each in place.glob("*/"))
        if unknown := sorted(set(within) - set(classes)):
            raise DataError(
                f"{name}: {place} has the class {unknown[0]!r}, which is none of train's "
                f"({', '.join(classes[:8])}{', …' if len(classes) > 8 else ''})"
            )
        rows = [(file, classes.index(each)) for each in within for file in _files(place / each)]
        if not within:  # pictures without a class: their labels are not public
            rows = [(file, HIDDEN) for file in _files(place)]
        files = Files(tuple(file for file, _ in rows), folder)
        splits[split] = Pictures.of(files, [label for _, label in rows])
    if not len(splits["train"]):
        raise DataError(f"{name}: {folder / 'train'} has no picture ({', '.join(sorted(ENDINGS))})")
    return splits, classes


def _files(place: Path) -> Iterator[Path]:
    yield from sorted(file for file in place.iterdir() if file.suffix.lower() in ENDINGS)
