"""The storage ledger: numbers of parameters, and bytes that are really there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.contract import Fact
from gossamer.measure import formats
from gossamer.measure.attention import operations
from gossamer.quantization.packed import Packed


def parameters(model: nn.Module) -> int:
    """Elements of all parameters; one that is used under several names counts once. A packed layer
    counts the weights that its integers stand for."""
    packed = sum(torch.Size(layer.shape).numel() for layer in _packed(model))
    return packed + sum(parameter.numel() for parameter in model.parameters())


def nonzero_parameters(model: nn.Module) -> int:
    """Elements of all parameters that are not exactly zero."""
    packed = sum(int(torch.count_nonzero(layer.integers())) for layer in _packed(model))
    return packed + sum(int(torch.count_nonzero(parameter)) for parameter in model.parameters())


def bits_per_weight(model: nn.Module, facts: Iterable[Fact]) -> float | None:
    """Bits that the changed operations of `facts` really take, per weight they stand for.

    Counts every parameter and persistent buffer (values, scales, indices, masks; not biases) of the
    module that a fact names, against the elements of the fact's shape. Zeros in a dense tensor take
    their full bits. Rows that no method changed, attention's products and rows whose name is no
    module are left out; None if none is left."""
    bits = weights = 0
    for fact in operations(facts):
        stored = list(_stored(model, fact.name)) if fact.changed and not fact.skipped else []
        if stored:
            bits += 8 * sum(tensor.numel() * tensor.element_size() for tensor in stored)
            weights += _elements(fact.shape)
    return bits / weights if weights else None


def checkpoint_bytes(directory: str | Path) -> int:
    """Bytes on disk of an exported model's weight files: *.safetensors, with all that is in them.

    Raises FileNotFoundError if there are none."""
    files = sorted(Path(directory).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{directory}: no *.safetensors")
    return sum(path.stat().st_size for path in files)


def state_bytes(facts: Iterable[Fact]) -> int:
    """Bytes of what an operation keeps while it runs (caches, index maps), over all of `facts`."""
    return sum(fact.state_bytes for fact in facts)


def size(
    model: nn.Module,
    dense: nn.Module,
    facts: Iterable[Fact],
    *,
    trainable: int,
    directory: str | Path,
    dense_directory: str | Path,
) -> dict[str, Any]:
    """The record's `size`: of the model reloaded from `directory` and its dense twin's export.

    `trainable` is what the run trained (elements); nothing of a reloaded model is trainable."""
    rows = list(facts)
    return {
        "parameters": parameters(model),
        "dense_parameters": parameters(dense),
        "trainable_parameters": trainable,
        "nonzero_parameters": nonzero_parameters(model),
        "bits_per_weight": bits_per_weight(model, rows),
        "checkpoint_bytes": checkpoint_bytes(directory),
        "dense_checkpoint_bytes": checkpoint_bytes(dense_directory),
        "state_bytes": state_bytes(rows),
        "format_bytes": formats.storage_bytes(parameters(model), rows),
        "dense_format_bytes": formats.dense_bytes(parameters(dense), rows),
    }


def _packed(model: nn.Module) -> Iterator[Packed]:
    return (module for module in model.modules() if isinstance(module, Packed))


def _stored(model: nn.Module, name: str) -> Iterator[Tensor]:
    """The tensors that a module's operation is stored in; a fact may also name a parameter."""
    try:
        module = model.get_submodule(name)
    except AttributeError:
        found = dict(model.named_parameters()).get(name)
        if found is not None:
            yield found
        return
    for path, tensor in module.state_dict().items():
        if path.rpartition(".")[2] != "bias":
            yield tensor


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
