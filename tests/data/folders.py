"""Writes small parquet folders for the tests."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from datasets import ClassLabel, Dataset, Features, Value


def folder(path: Path, **splits: dict[str, list] | pa.Table) -> str:
    """A folder with a parquet file per split, e.g. folder(path, train={"text": …, "label": …})."""
    path.mkdir(parents=True, exist_ok=True)
    for name, columns in splits.items():
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        parquet.write_table(table, path / f"{name}.parquet")
    return str(path)


def named(columns: dict[str, list], classes: list[str]) -> pa.Table:
    """The same columns as an arrow table whose metadata names the classes of `label`."""
    features = {name: Value("string") for name in columns if name != "label"}
    features["label"] = ClassLabel(names=classes)
    return Dataset.from_dict(columns, features=Features(features)).data.table


def rows(start: int, count: int, classes: int = 2) -> dict[str, list]:
    """Distinct sentences with labels in turn."""
    numbers = range(start, start + count)
    return {
        "text": [f"sentence number {number} of the test" for number in numbers],
        "label": [number % classes for number in numbers],
    }
