"""Which runtimes a finished model and its twin are timed in on a device, and where they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from gossamer.contract import Fact
from gossamer.measure import cores, semi_structured, size
from gossamer.measure.deployed import Files, deployed
from gossamer.measure.speed import speed
from gossamer.quantization.packed import Packed

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
    model compressed; and a quantised one with int8 products. `alone`: no other device measures
    them, so that patience is worth it. `files`: both models as ONNX, which a CPU is measured
    with."""
    if reason := _not_here(compressed, device, alone):
        return [{"workload": name, "skipped": reason} for name in workloads]
    sparse = semi_structured.sparse_layers(facts)
    notes = [semi_structured.NO_KERNEL] if sparse and device == "cpu" else []
    if files is not None and device == "cpu":
        return deployed(dense, compressed, files, workloads, notes=notes)
    notes += in_floats(facts)
    entries = speed(dense, compressed, workloads, device=device, notes=notes)
    if sparse and device == "cuda":
        entries += cores.on_sparse(dense, compressed, workloads, sparse)
    if device == "cuda" and any(isinstance(each, Packed) for each in compressed.modules()):
        entries += cores.on_integer(dense, compressed, workloads)
    return entries


def in_floats(facts: Sequence[Fact]) -> list[str]:
    """What must be known of torch's own times of operations whose operands are integers."""
    bits = {fact.operands[0] for fact in facts if fact.operands}
    if low := sorted(each for each in bits if each < 8):
        return [
            f"INT{low[0]} is simulated: its products are those of floats, for no runtime and no "
            "current data-centre GPU multiplies integers so small"
        ]
    return ["INT8: its products are those of floats; export=onnx has integer ones"] if bits else []


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
