"""What must be true of an exported model before its numbers are reported."""

from collections.abc import Sequence
from typing import Any

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
    held: dict[str, Tensor] = model.held  # type: ignore[assignment]
    if not held:
        return []
    back = sum(
        int((loaded.get_submodule(path).weight.cpu()[~keep.cpu()] != 0).sum())
        for path, keep in held.items()
    )
    return [Check("zeros of sparse methods are kept", back == 0, f"{back} came back")]


def density_checks(facts: Sequence[Fact]) -> list[Check]:
    """The density reached, over all operations that declare the same target together (a global
    threshold meets its target over the group, not in each layer)."""
    checks = []
    for target in sorted({fact.target for fact in facts if fact.target is not None}):
        rows = [fact for fact in facts if fact.target == target and not fact.skipped]
        sizes = [float(torch.Size(fact.shape).numel()) for fact in rows]
        if not sum(sizes):
            continue
        reached = sum(s * f.density for s, f in zip(sizes, rows, strict=True)) / sum(sizes)
        checks.append(
            Check(
                f"density {target:g} is met",
                abs(reached - target) <= TOLERANCE * target,
                f"{reached:.5f} over {len(rows)} operations",
            )
        )
    return checks


def demand(checks: Sequence[Check], facts: dict[str, list[Fact]]) -> None:
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


def verdicts(actors: Sequence[Any], loaded: nn.Module, reference: nn.Module) -> list[Check]:
    """The checks of everyone who has the verb, in order."""
    return [
        check
        for actor in actors
        if hasattr(actor, "verify")
        for check in actor.verify(loaded, reference)
    ]
