"""Which runtimes a finished model and its twin are timed in on a device, and where they are not."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gossamer.contract import Fact
from gossamer.measure import semi_structured, size
from gossamer.measure.deployed import Files, deployed
from gossamer.measure.speed import RUNTIME, speed

MANY = 1_000_000_000  # parameters of which a pass on a CPU takes minutes


def timed(
    dense: nn.Module,
    compressed: nn.Module,
    workloads: Mapping[str, Mapping[str, Any]],
    facts: Sequence[Fact],
    device: str,
    *,
    alone: bool = True,
    files: Files | None = None,
) -> list[dict[str, Any]]:
    """The record's `speed` on `device`: both models as they are, and, where the ledger says 2:4 and
    the device has sparse tensor cores, in bfloat16 with the dense twin dense and the compressed
    model compressed. `alone`: no other device measures them, so that patience is worth it. `files`:
    both models as ONNX, which a CPU is measured with."""
    if reason := _not_here(compressed, device, alone):
        return [{"workload": name, "skipped": reason} for name in workloads]
    sparse = semi_structured.sparse_layers(facts)
    notes = [semi_structured.NO_KERNEL] if sparse and device == "cpu" else []
    if files is not None and device == "cpu":
        return deployed(dense, compressed, files, workloads, notes=notes)
    entries = speed(dense, compressed, workloads, device=device, notes=notes)
    if sparse and device == "cuda":
        entries += _on_sparse_cores(dense, compressed, workloads, sparse)
    return entries


def _on_sparse_cores(
    dense: nn.Module,
    compressed: nn.Module,
    workloads: Mapping[str, Mapping[str, Any]],
    layers: Sequence[str],
) -> list[dict[str, Any]]:
    """Both in bfloat16: what the kernels run, and what a dense model is best run in."""
    plain = copy.deepcopy(dense).to("cuda", torch.bfloat16)
    small = copy.deepcopy(compressed).to("cuda", torch.bfloat16)
    left = semi_structured.compress(small, layers)
    if len(left) == len(layers):
        reason = f"no layer is eligible for 2:4 kernels: {next(iter(left.items()))}"
        return [{"workload": name, "skipped": reason} for name in workloads]
    notes = [f"left dense: {path}, {why}" for path, why in left.items()]
    told = f"{RUNTIME}, 2:4 kernels in {len(layers) - len(left)} of {len(layers)} sparse layers"
    return speed(plain, small, workloads, device="cuda", runtime=told, notes=notes)


def _not_here(model: nn.Module, device: str, alone: bool) -> str | None:
    if getattr(model, "stream", False) and device != "cpu":
        return "model.stream=true: the model is never on the accelerator as a whole"
    count = size.parameters(model)
    if device == "cpu" and count > MANY and not alone:
        return (
            f"{count / 1e9:.1f} G parameters take minutes a pass on a CPU; "
            "type gossamer bench RUN --device cpu"
        )
    return None
