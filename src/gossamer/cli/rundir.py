"""Where a run lives: outputs/<name>/<12-hex digest of what changes the result>/seed<k>/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What a run is called, where it goes and what it shows: none of it changes the result.
OUTSIDE = (
    "seed", "sweep", "outputs", "name", "logger", "rerun", "overrides", "choices", "digest",
    "directory",
)  # fmt: skip
OUTSIDE_TRAINER = ("progress", "log_every", "checkpoint_every")
OUTSIDE_EVAL = ("batch_size",)


def digest(config: Mapping[str, Any]) -> str:
    """12 hex digits over everything in a frozen config that changes the result, the order of the
    methods included. 1 and 1.0 are the same number."""
    text = json.dumps(_canonical(_counted(config)), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _counted(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in OUTSIDE}
    trainer = kept.get("trainer")
    if isinstance(trainer, Mapping):
        kept["trainer"] = {k: v for k, v in trainer.items() if k not in OUTSIDE_TRAINER}
    asked = kept.pop("eval", None) or {}
    if asked.get("zero_shot"):  # one that is asked nothing is what it was before there was `eval`
        kept["eval"] = {k: v for k, v in asked.items() if k not in OUTSIDE_EVAL}
        kept["eval"]["zero_shot"] = sorted(asked["zero_shot"])
    kept["compression"] = list((config.get("compression") or {}).items())  # ordered
    if isinstance(twin := kept.pop("twin_config", None), Mapping):
        kept["twin"] = _counted(twin)  # what the twin is, however it was written
    return kept


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def default_name(choices: Mapping[str, Any]) -> str:
    """The experiment's name, or <model>-<dataset>-<compression>, usable as a folder."""
    if choices.get("experiment"):
        return _folder(str(choices["experiment"]))
    methods = "+".join(choices["compression"]) or "none"
    return _folder(f"{choices['model']}-{choices['dataset']}-{methods}")


def _folder(text: str) -> str:
    return text.replace("/", "_")


def run_directory(config: Mapping[str, Any]) -> Path:
    """The directory of a frozen config: the same command always leads to the same one."""
    name = config.get("name") or default_name(config["choices"])
    return Path(config["outputs"]) / name / digest(config) / f"seed{config['seed']}"
