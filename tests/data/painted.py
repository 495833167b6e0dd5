"""Paints small pictures for the tests, and writes them as parquet files or as folders."""

import io
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from gossamer.data.images import Images
from tests.data.folders import folder


def painted(number: int, mode: str = "RGB", shape: tuple[int, int] = (12, 12)) -> bytes:
    """A picture of its own for every number, as PNG."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    shades = np.random.default_rng(number).integers(0, 256, (*shape, channels), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(shades.squeeze(), mode).save(stream, "PNG")
    return stream.getvalue()


def rows(start: int, count: int, classes: int = 2, mode: str = "RGB") -> dict[str, list]:
    """Different pictures, with labels in turn."""
    numbers = range(start, start + count)
    return {
        "image": [{"bytes": painted(n, mode), "path": f"{n}.png"} for n in numbers],
        "label": [n % classes for n in numbers],
    }


def named(columns: dict[str, list], classes: list[str]):
    """The same columns as an arrow table as `datasets` writes it."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=classes)})
    if "fine_label" in columns:
        features["fine_label"] = Value("int64")
    return Dataset.from_dict(columns, features=features).data.table


def images(path: Path, classes: int = 2, mode: str = "RGB", train: int = 20, **settings) -> Images:
    """`train` pictures for training, 6 for validation and 8 for test; batches of 5, 12 pixels."""
    place = folder(
        path,
        train=rows(0, train, classes, mode),
        validation=rows(100, 6, classes, mode),
        test=rows(200, 8, classes, mode),
    )
    return Images(**{"path": place, "size": 12, "batch_size": 5, **settings})


def class_folders(path: Path, **splits: dict[str, list[int]]) -> str:
    """`<split>/<class>/<number>.png`, e.g. class_folders(path, train={"cat": [1, 2]})."""
    for split, classes in splits.items():
        for name, numbers in classes.items():
            place = path / split / name
            place.mkdir(parents=True, exist_ok=True)
            for number in numbers:
                (place / f"{number}.png").write_bytes(painted(number))
    return str(path)
