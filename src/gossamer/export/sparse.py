"""sparsity.json: which weights of an export hold exact zeros, in which pattern.

Torch's semi-structured kernels and TensorRT take dense values with exact zeros and only need to be
told where the pattern holds. A weight without a zero is never mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from gossamer.contract import Fact
from gossamer.errors import TargetError
from gossamer.sparsity.patterns import n_of_m

# The dimension of a (out, in, …) weight that a pattern runs along; None: no single one.
AXES = {"row": 0, "column": 1}


def metadata(facts: Iterable[Fact], state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """What sparsity.json says of the tensors in `state`, or None if none of them is sparse.

    A group per pattern: {"pattern", "axis", "layers": [{"name", "tensor", "shape", "zeros",
    "density"}]}, where zeros are counted in the tensor itself. Facts whose tensor is smaller rather
    than zeroed (heads, neurons), packed or dense are left out. Raises TargetError where a claimed
    N:M pattern does not hold."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for fact in facts:
        name = fact.name if fact.name in state else f"{fact.name}.weight"
        weights = fact.dense_macs is None  # else attention's products: their map is no tensor
        if not weights or not _is_pattern(fact.pattern) or name not in state:
            continue
        tensor = state[name]
        zeros = int((tensor == 0).sum())
        if zeros == 0:
            continue
        _hold(fact, tensor)
        layer = {"name": fact.name, "tensor": name, "shape": list(tensor.shape), "zeros": zeros}
        layer["density"] = 1 - zeros / tensor.numel()
        groups.setdefault(fact.pattern, []).append(layer)
    if not groups:
        return None
    return {
        "schema": 1,
        "storage": "dense values with exact zeros",
        "groups": [
            {"pattern": pattern, "axis": _axis(pattern), "layers": layers}
            for pattern, layers in groups.items()
        ],
    }


def _is_pattern(pattern: str) -> bool:
    return pattern == "unstructured" or pattern in AXES or bool(n_of_m(pattern)) or _block(pattern)


def _block(pattern: str) -> bool:
    return pattern.startswith("block:")


def _axis(pattern: str) -> int | None:
    return 1 if n_of_m(pattern) else AXES.get(pattern)


def _hold(fact: Fact, weight: Tensor) -> None:
    """Kernels will rely on the pattern: at most N non-zeros in every M inputs."""
    if not (pattern := n_of_m(fact.pattern)):
        return
    kept, group = pattern.n, pattern.m
    runs = weight.flatten(1)  # (out, in): of a convolution over patches, all that it sums over
    if runs.shape[-1] % group or bool(
        (torch.count_nonzero(runs.reshape(-1, group), dim=1) > kept).any()
    ):
        raise TargetError(
            f"{fact.name}: the ledger says {fact.pattern} along the inputs, but the weight "
            f"{tuple(weight.shape)} does not hold it; nothing was exported"
        )
