"""A finished model as a folder, and a model from such a folder.

model.safetensors      every parameter and persistent buffer, exactly
unsaved.safetensors    what a state dict leaves out (position ids, rotary tables), if any
gossamer.json          the manifest: builder, data, changes against a fresh model, parts
sparsity.json          where exact zeros stand in which pattern; only if there are any
config.json, tokenizer files     for Hugging Face models; config.json only where it is the truth
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gossamer.contract import Check, Fact
from gossamer.data.info import DataInfo
from gossamer.errors import ConfigError, ResumeError, StageError
from gossamer.export import hub, manifest, plain, sparse
from gossamer.targets import build, locate

SCHEMA = 1
MANIFEST, WEIGHTS, UNSAVED, SPARSITY = (
    "gossamer.json",
    "model.safetensors",
    "unsaved.safetensors",
    "sparsity.json",
)
FIELDS: dict[str, Any] = {  # of the manifest, with their types in JSON
    "builder": dict,
    "info": dict,
    "parts": dict | None,
    "changes": dict,
    "shared": dict,
    "facts": list,
    "files": dict,
}


def save(
    model: nn.Module,
    directory: str | Path,
    *,
    builder: Mapping[str, Any],
    info: Any,
    tokenizer: Any,
    facts: Sequence[Fact],
    fresh: nn.Module,
) -> list[dict[str, Any]]:
    """Export `model` to `directory`: all of it or nothing (a folder beside it, then a rename).

    `builder` is the resolved plain `model` node of the configuration, `info` the DataInfo that the
    model was built for, `fresh` what the builder makes on the meta device (used up: it is edited).
    Returns one {"path", "bytes", "sha256"} per file; paths are relative to the folder that holds
    `directory`. Raises ConfigError for a module that could not be rebuilt, TargetError for a
    pattern that the ledger claims and the weights do not hold, StageError if the disk refuses."""
    directory = Path(directory)
    locate(builder["_target_"], "model._target_")
    changes = manifest.differences(model, fresh)
    tensors, shared = _unshared(model)
    readable, reason = hub.readable(model, changes)
    parts = getattr(model, "parts", None)
    told = {
        "schema": SCHEMA,
        "builder": dict(builder),
        "info": plain.plain(info, "the data's info"),
        "parts": plain.plain(parts, "the model's parts") if is_dataclass(parts) else None,
        "changes": changes,
        "shared": shared,
        "facts": [asdict(fact) for fact in facts],
        "transformers": readable,
        "reason": reason,
    }
    zeros = sparse.metadata(facts, tensors)
    with _replacing(directory) as folder:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        if hidden := {n: _dense(n, t) for n, t in manifest.unsaved(model).items()}:
            save_file(hidden, folder / UNSAVED, metadata={"format": "pt"})
        if zeros:
            (folder / SPARSITY).write_text(json.dumps(zeros, indent=1))
        hub.write(model, tokenizer, getattr(info, "classes", None), folder, config=readable)
        told["files"] = {file["path"]: file for file in _digests(folder, folder)}
        (folder / MANIFEST).write_text(json.dumps(told, indent=1, allow_nan=False))
    return digests(directory)


def load(
    directory: str | Path, device: str | torch.device = "cpu", trust_remote_code: bool = False
) -> nn.Module:
    """The exported model, in eval mode on `device`, nothing trainable, `.parts` as exported.

    Its state equals the exported one bit by bit: weights are read strictly, on a model that the
    builder makes on the meta device. Raises ResumeError for a missing, foreign, incomplete or
    altered folder, and ConfigError where the manifest names a class that is not on the allow-list,
    or a builder that runs downloaded code (unless `trust_remote_code`)."""
    directory = Path(directory)
    told = _manifest(directory)
    node = told["builder"]
    if node.get("trust_remote_code") and not trust_remote_code:
        raise ConfigError(f"{directory}: runs downloaded code; allow it by trust_remote_code=True")
    if not isinstance(locate(node.get("_target_", ""), "builder._target_"), type):
        raise ConfigError(f"builder._target_: {node['_target_']!r} is not a class")
    _intact(directory, told["files"])
    builder = build(node, "builder")
    with _readable(directory):
        info = plain.revive(told["info"], "info.class")
        parts = told["parts"] and plain.revive(told["parts"], "parts.class")
    with torch.device("meta"):
        model = builder.build(info, meta=True)
    with _readable(directory):
        manifest.apply(model, told["changes"])
        _fill(model, directory, told["shared"])
    if parts is not None:
        model.parts = parts
    return model.requires_grad_(False).eval().to(device)


class Bundle:
    """The choice `export=default`: this folder, as an object with the two functions above. Other
    choices write a file for another runtime besides."""

    save = staticmethod(save)
    load = staticmethod(load)
    file: str | None = None  # the other runtime's, in the folder

    def requirements(self, info: DataInfo) -> list[str]:
        """Why models of this data cannot be written, one line each."""
        return []

    def refused(self, model: nn.Module) -> str | None:
        """Why `file` cannot be made of this model; None: it can."""
        return None

    def write(self, model: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> Path:
        """Write the other runtime's file, of a model that is not `refused`; inputs: one batch."""
        raise ConfigError("export=default writes no other runtime's file; type export=onnx")

    def checks(
        self, model: nn.Module, inputs: Mapping[str, Tensor], path: Path, run: Callable[..., Tensor]
    ) -> list[Check]:
        """What must be true of what was written; `run(**inputs)`: the runtime's logits."""
        return []


def facts(directory: str | Path) -> list[Fact]:
    """The ledger that was exported with the model, so that it can be measured again later."""
    rows = _manifest(Path(directory))["facts"]
    pairs = ("shape", "operands")  # JSON has no tuples
    return [Fact(**row | {n: tuple(row[n]) for n in pairs if row.get(n)}) for row in rows]


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ResumeError(f"{directory}: no export of gossamer (no {MANIFEST} in it)") from error
    except (OSError, ValueError) as error:
        raise ResumeError(f"{path}: cannot be read: {error}; export the run again") from error
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        seen = told.get("schema") if isinstance(told, dict) else None
        raise ResumeError(f"{path}: manifest of schema {seen}, this version reads schema {SCHEMA}")
    if wrong := [key for key, kind in FIELDS.items() if not isinstance(told.get(key), kind)]:
        raise ResumeError(f"{path}: damaged, {', '.join(wrong)} missing or of another type")
    return told


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """Inside, entries of a hand-written manifest that are missing or of another type."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ResumeError(
            f"{directory / MANIFEST}: damaged: {type(error).__name__}: {error}; export it again"
        ) from error


def _fill(model: nn.Module, directory: Path, shared: dict[str, str]) -> None:
    try:
        tensors = load_file(directory / WEIGHTS)
        hidden = load_file(directory / UNSAVED) if (directory / UNSAVED).exists() else {}
        given = {name: tensors[source] for name, source in shared.items()}
        model.load_state_dict({**tensors, **given}, strict=True, assign=True)
    except (SafetensorError, KeyError, RuntimeError) as error:
        line = " ".join(str(error).split())
        raise ResumeError(f"{directory / WEIGHTS}: does not fit its manifest: {line}") from error
    for name, source in shared.items():  # one tensor under two names, as it was
        parent, attribute = name.rpartition(".")[::2]
        module, origin = model.get_submodule(parent), model.get_submodule(source.rpartition(".")[0])
        home = "_parameters" if attribute in module._parameters else "_buffers"
        getattr(module, home)[attribute] = getattr(origin, source.rpartition(".")[2])
    manifest.restore_unsaved(model, hidden)
    named = [*model.named_parameters(), *model.named_buffers(), *manifest.unsaved(model).items()]
    if empty := [name for name, tensor in named if tensor.is_meta]:
        raise ResumeError(f"{directory}: {len(empty)} tensors without values, first {empty[0]}")


def _unshared(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict on the CPU, each storage once, and {name: name it shares a tensor with}."""
    tied = getattr(model, "_tied_weights_keys", None) or ()
    state = model.state_dict()
    order = sorted(state, key=lambda name: name in tied)  # transformers expects the untied name
    first: dict[Any, str] = {}
    tensors: dict[str, Tensor] = {}
    shared = {}
    for name in order:
        tensor = state[name]
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided:
            raise ConfigError(f"export: {name} is not a plain tensor; bake it in `finalize`")
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device)
        if tensor.numel() and place in first:
            shared[name] = first[place]
        else:
            first[place] = name
            tensors[name] = _dense(name, tensor)
    return tensors, shared


def _dense(name: str, tensor: Tensor) -> Tensor:
    if tensor.is_meta:
        raise ConfigError(f"export: {name} is on the meta device and has no values")
    return tensor.detach().cpu().contiguous().clone()  # own storage: safetensors refuses views


@contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """A folder that becomes `directory` when the block ends, and vanishes when it fails."""
    fresh = directory.parent / f".{directory.name}.new"
    old = directory.parent / f".{directory.name}.old"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        if directory.exists():
            directory.rename(old)
        fresh.rename(directory)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        if old.exists() and not directory.exists():
            old.rename(directory)
        raise StageError(
            f"{directory}: cannot write the model: {error}; make room, then `gossamer resume`"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def digests(directory: Path) -> list[dict[str, Any]]:
    """One {"path", "bytes", "sha256"} per file of an export, as `save` returns them."""
    return list(_digests(directory, directory.parent))


def _digests(folder: Path, base: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = path.stat().st_size
        yield {"path": path.relative_to(base).as_posix(), "bytes": size, "sha256": digest}


def _intact(directory: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    seen = {file["path"]: file for file in _digests(directory, directory)}
    for name, file in files.items():
        if name not in seen:
            raise ResumeError(f"{directory / name}: missing; export the run again")
        if seen[name] != file:
            raise ResumeError(
                f"{directory / name}: altered since it was exported ({seen[name]['bytes']} bytes, "
                f"{file['bytes']} were written); export the run again"
            )
