"""What must be true of an exported model before its numbers are reported."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gossamer.contract import Check, Fact
from gossamer.errors import TargetError

TOLERANCE = 0.01  # of a declared density, relative


def reload_checks(model: nn.Module, loaded: nn.Module, old: Tensor, new: Tensor) -> list[Check]:
    """The reloaded weights are the exported ones bit by bit, finite, and compute the same outputs
    `old` (of the model) and `new` (of the reloaded one) on the same sample."""
    state, again = model.state_dict(), loaded.state_dict()
    same = state.keys() == again.keys() and all(torch.equal(state[k], again[k]) for k in state)
    finite = all(bool(torch.isfinite(t).all()) for t in again.values() if t.is_floating_point())
    alike = torch.equal(old, new)
    return [
        Check("reloaded weights equal the exported", same, f"{len(again)} tensors, bit by bit"),
        Check("reloaded outputs equal the exported", alike, difference(old, new)),
        Check("weights are finite", finite),
    ]


def difference(old: Tensor, new: Tensor) -> str:
    return f"largest difference {float((old - new).abs().max()):.2g}"


def held_checks(model: nn.Module, loaded: nn.Module) -> list[Check]:
    """Zeros that a sparse method left are zeros in the exported file, whatever came after it."""
    held: dict[str, Tensor] = getattr(model, "held", {})  # the dense model went through no method
    if not held:
        return []
    back = sum(
        int((loaded.get_submodule(path).weight.cpu()[~keep.cpu()] != 0).sum())
        for path, keep in held.items()
    )
    return [Check("zeros of sparse methods are kept", back == 0, f"{back} came back")]


def density_checks(facts: Mapping[str, Sequence[Fact]]) -> list[Check]:
    """The density that each method reached, over all its operations that declare the same target
    (a global threshold meets its target over the group, not in each layer); of attention's maps by
    themselves, for they are no weights. Fewer non-zeros than
    declared are a miss too, unless an earlier method in the list left zeros of its own, or any of
    them quantised the weights: small ones then round to zero."""
    quantised = {fact.name for rows in facts.values() for fact in rows if fact.operands}
    checks = []
    for position, (name, rows) in enumerate(facts.items()):
        rows = [fact for fact in rows if fact.target is not None and not fact.skipped]
        kinds = {(f.target, f.dense_macs is not None) for f in rows if f.target is not None}
        for target, maps in sorted(kinds):
            same = [f for f in rows if f.target == target and (f.dense_macs is not None) == maps]
            sizes = [torch.Size(fact.shape).numel() for fact in same]
            reached = sum(n * f.density for n, f in zip(sizes, same, strict=True)) / sum(sizes)
            excess = (reached - target) / target if target else reached
            zeros = position > 0 or any(fact.name in quantised for fact in same)
            met = excess <= TOLERANCE and (zeros or excess >= -TOLERANCE)
            checks.append(
                Check(
                    f"{name}: {'map ' if maps else ''}density {target:g} is met",
                    met,
                    f"{reached:.5f} over {len(same)} operations",
                )
            )
    return checks


def demand(checks: Sequence[Check], facts: Mapping[str, Sequence[Fact]]) -> None:
    """Raise TargetError for a failed check, or for a method whose ledger names nothing it
    changed."""
    lines = [f"check failed: {c.name}: {c.figure}" for c in checks if not c.passed]
    lines += [
        f"compression.{name}: nothing was changed; its ledger names no changed operation"
        for name, rows in facts.items()
        if not any(fact.changed for fact in rows)
    ]
    if lines:
        raise TargetError("\n".join(lines))
