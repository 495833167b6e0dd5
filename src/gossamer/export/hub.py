"""The files beside the weights that let `transformers` load an export as one of its own models."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

from torch import nn


def readable(model: nn.Module, changes: dict[str, dict[str, Any]]) -> tuple[bool, str]:
    """Whether `from_pretrained` rebuilds exactly this model from its config, and why (not).

    Its configuration holds one width for all layers, so a changed shape, number format, attribute
    or module anywhere means no; then no config.json is written, and transformers refuses the
    folder instead of loading nonsense."""
    library = sys.modules.get("transformers")  # not imported: then the model cannot be one of its
    if library is None or not isinstance(model, library.PreTrainedModel):
        return False, f"{type(model).__name__} is not a model of transformers"
    if not type(model).__module__.startswith("transformers."):
        return False, f"{type(model).__name__} is not a class of transformers itself"
    for kind, paths in changes.items():
        if paths and kind != "notes":
            return False, f"{len(paths)} {kind} changed, the first at {next(iter(paths))!r}"
    return True, "no shape changed"


def write(
    model: Any, tokenizer: Any, classes: tuple[str, ...] | None, folder: Path, config: bool
) -> None:
    """Write the tokenizer's files (if there is one) and, if `config`, config.json into `folder`."""
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if not config:
        return
    told = copy.deepcopy(model.config)
    told.architectures = [type(model).__name__]
    told.dtype = next(model.parameters()).dtype
    if classes and len(classes) == getattr(told, "num_labels", None):
        told.id2label = dict(enumerate(classes))
        told.label2id = {label: place for place, label in enumerate(classes)}
    told.save_pretrained(folder)
