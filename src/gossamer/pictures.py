"""What a finished model's methods would rather show than tell, for a few rows of the test split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gossamer.contract import Batch, Method, Picture
from gossamer.models.inference import inference
from gossamer.records.pictures import FOLDER, write
from gossamer.stages import Experiment, placed

__all__ = ["FOLDER", "sample", "show"]

ROWS = 4  # of the test split, evenly spaced


def show(experiment: Experiment, loaded: nn.Module, directory: Path) -> int:
    """Ask model, task and methods for pictures of `loaded`, the exported model, and write them
    below `directory`, in the place of those of an earlier attempt; how many there are."""
    asked = _asked(experiment)
    found: list[tuple[str, Picture]] = []
    if asked:
        device = experiment.training.device()
        batch = sample(experiment.data, device)
        model = placed(loaded, device)
        with inference(model):
            for name, verb in asked.items():
                found += [(name, picture) for picture in verb(model, batch)]
    write(directory, found)
    return len(found)


def _asked(experiment: Experiment) -> Mapping[str, Callable[[nn.Module, Batch], list[Picture]]]:
    """The verb of everyone who has one of their own, by name."""
    actors: dict[str, Any] = {"model": experiment.builder, "task": experiment.task}
    return {
        name: actor.pictures
        for name, actor in (actors | experiment.methods).items()
        if getattr(type(actor), "pictures", Method.pictures) is not Method.pictures
    }


def sample(data: Any, device: Any) -> dict[str, Tensor]:
    """ROWS rows of the test split, ready for the model, and of data that people can look at their
    "pixels"."""
    rows = data.rows("test")
    count = min(ROWS, len(rows))
    raw = rows[[place * len(rows) // count for place in range(count)]]
    raw = {name: value.to(device) for name, value in raw.items()}
    batch = dict(data.on_device(raw))
    pixels = data.pixels(raw) if hasattr(data, "pixels") else None
    return batch if pixels is None else batch | {"pixels": pixels}
