"""What a run has finished, on disk: stages, units of one-shot stages, and the checkpoint of a stage
in progress. Every file is written beside its place and renamed: what is there is complete."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gossamer.errors import ResumeError, StageError


def write_atomically(path: Path, write) -> None:
    """Call `write(temporary path)` and rename the result to `path`; a full disk is one clear
    line."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        temporary.unlink(missing_ok=True)
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(error).splitlines()[0]
        raise StageError(
            f"{path}: could not be written: {reason}. What was saved before is intact: make room, "
            "then run the same command again"
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, lambda file: file.write_text(json.dumps(content, indent=1) + "\n"))


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ResumeError(f"{path}: damaged ({error}); delete it, or add rerun=true") from error


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Tensors and plain values only: what `torch.load(weights_only=True)` reads."""
    write_atomically(path, lambda file: torch.save(dict(content), file))


def load_tensors(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and tensor errors alike mean a damaged file
        raise ResumeError(
            f"{path}: damaged ({str(error).splitlines()[0]}); delete it to go on from what was "
            "saved before it, or add rerun=true to start again"
        ) from error


class Journal:
    """The state of one run (or of one dense training) under `directory`.

    `fingerprint` names everything that the state depends on (configuration, data, starting weights,
    code); continuing a journal that another fingerprint began is an error.
    """

    def __init__(self, directory: Path, fingerprint: Mapping[str, str]) -> None:
        self.directory = directory
        path = directory / "fingerprint.json"
        if path.exists():
            old = read_json(path)
            changed = sorted(key for key in fingerprint if old.get(key) != fingerprint[key])
            if changed:
                raise ResumeError(
                    f"{directory}: cannot be continued, because {', '.join(changed)} changed since "
                    "it began; add rerun=true to start again"
                )
        else:
            write_json(path, fingerprint)

    def _path(self, stage: int, suffix: str) -> Path:
        return self.directory / f"stage-{stage:02d}{suffix}"

    def finished(self, stage: int) -> dict[str, Any] | None:
        """The row that `finish` wrote for this stage, or None."""
        path = self._path(stage, ".json")
        return read_json(path) if path.exists() else None

    def finish(self, stage: int, row: Mapping[str, Any], model: nn.Module) -> None:
        """The stage is done: its weights, then its row; what was kept to continue it goes."""
        save_tensors(self._path(stage, ".pt"), {"model": model.state_dict()})
        write_json(self._path(stage, ".json"), row)
        for leftover in [self.checkpoint(stage), self.best(stage), *self._units(stage)]:
            leftover.unlink(missing_ok=True)

    def restore(self, stage: int, model: nn.Module) -> None:
        """Load the weights that left a finished stage."""
        model.load_state_dict(load_tensors(self._path(stage, ".pt"))["model"])

    def checkpoint(self, stage: int) -> Path:
        """Where the checkpoint of a trained stage in progress is kept."""
        return self._path(stage, ".checkpoint.pt")

    def best(self, stage: int) -> Path:
        """Where the best weights so far of a stage that names a validation metric are kept."""
        return self._path(stage, ".best.pt")

    def _units(self, stage: int) -> list[Path]:
        return sorted(self.directory.glob(f"stage-{stage:02d}.unit-*.pt"))

    def save_units(self, stage: int, position: int, names: list[str], model: nn.Module) -> None:
        """The units `names` are done. A single one named like a module saves that module's state;
        otherwise the whole model is saved, which makes the files before it superfluous."""
        own = len(names) == 1 and names[0] in dict(model.named_modules()) and names[0] != ""
        module = model.get_submodule(names[0]) if own else model
        earlier = [] if own else self._units(stage)
        done = [name for path in earlier for name in load_tensors(path)["names"]] + names
        save_tensors(
            self._path(stage, f".unit-{position:06d}.pt"),
            {"names": done, "module": names[0] if own else "", "state": module.state_dict()},
        )
        for old in earlier:
            old.unlink()

    def restore_units(self, stage: int, model: nn.Module) -> list[str]:
        """Bring the model to where the last saved unit left it; the names of the units done."""
        done: list[str] = []
        for path in self._units(stage):
            unit = load_tensors(path)
            model.get_submodule(unit["module"]).load_state_dict(unit["state"])
            done += unit["names"]
        return done
