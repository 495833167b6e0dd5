"""The ledger of a finished DSEE model and what must be true of it, read off its weights alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from gossamer.compression.dsee.adapter import SideBranchLinear
from gossamer.contract import Check, Fact
from gossamer.models.parts import Units, body_linears, parts_of
from gossamer.sparsity import ledger


def facts(
    model: nn.Module, roles: Collection[str], sparsity: float, update_sparsity: float
) -> list[Fact]:
    """One row for every linear layer of the body.

    `density` is that of the stored W (side branches) or W' (merged); the pattern of a merged layer
    states the sparsity of M ⊙ W before ΔW filled it in. `target` is that of the layer's group,
    which one threshold meets over all its layers together; a merged layer has none. `macs` are per
    token, side branches included; so are `bits`, per weight of W."""
    linear = parts_of(model).linear
    cut = {
        path: units.kind
        for units in parts_of(model).units
        if _before(model, units) > units.count
        for path in (*units.rows, *units.columns)
    }
    rows = []
    for path, layer in body_linears(model).items():
        adapted = linear[path] in roles
        side = isinstance(layer, SideBranchLinear)
        share = update_sparsity if adapted else sparsity
        masked = share > 0 and (side or not adapted)
        names = [cut[path]] if path in cut else []
        names += ["unstructured"] if masked else []
        row = ledger.fact(
            path,
            layer.weight,
            names[-1] if names else "dense",
            target=1 - share if masked else None,
            skipped=None if names or adapted else "no update, and its group was not pruned",
        )
        if side:
            row = _with_branches(row, layer)
        elif adapted and hasattr(layer, "frozen_density"):
            hidden = f"dense, merged over a {1 - layer.frozen_density:.1%} sparse W"
            row = replace(row, pattern=", ".join([*names, hidden]))
        rows.append(row)
    return rows


def _with_branches(row: Fact, layer: SideBranchLinear) -> Fact:
    side = [layer.U, layer.V, layer.values]
    weights = sum(tensor.numel() for tensor in side)
    extra = sum(t.numel() * t.element_size() for t in [*side, layer.indices])
    return replace(row, macs=row.macs + weights, bits=row.bits + 8 * extra / layer.weight.numel())


def sparsity_met(
    model: nn.Module, roles: Collection[str], sparsity: float, update_sparsity: float
) -> list[Check]:
    """Both groups have the zeros that were declared (those of an earlier method may come on top);
    for the adapted one, of W and of W'."""
    linears, linear = body_linears(model), parts_of(model).linear
    others = [layer.weight for path, layer in linears.items() if linear[path] not in roles]
    adapted = [layer for path, layer in linears.items() if linear[path] in roles]
    checks = []
    if sparsity:
        zeros, total = _zeros(others), sum(weight.numel() for weight in others)
        checks.append(_check("sparsity of W without update", zeros, total, sparsity))
    if update_sparsity:
        total = sum(layer.weight.numel() for layer in adapted)
        frozen = sum(_frozen_zeros(layer) for layer in adapted)
        row = _check("sparsity of W with update", frozen, total, update_sparsity)
        whole = _zeros(
            [m.merged() if isinstance(m, SideBranchLinear) else m.weight for m in adapted]
        )
        deployed = "if merged" if isinstance(adapted[0], SideBranchLinear) else "merged"
        checks.append(
            replace(row, figure=f"{row.figure}; W' {deployed}: {whole / total:.2%} zeros")
        )
    return checks


def _check(name: str, zeros: int, total: int, declared: float) -> Check:
    return Check(
        name,
        zeros >= round(declared * total),
        f"{zeros:,} of {total:,} weights zero ({zeros / total:.2%})",
    )


def _zeros(weights: list[Tensor]) -> int:
    return sum(weight.numel() - int(torch.count_nonzero(weight)) for weight in weights)


def _frozen_zeros(layer: nn.Module) -> int:
    """Zeros of M ⊙ W in an adapted layer; where merged, as it was before merging."""
    weight: Tensor = layer.weight
    if isinstance(layer, SideBranchLinear):
        return _zeros([weight])
    return round((1 - getattr(layer, "frozen_density", 1.0)) * weight.numel())


def units_removed(model: nn.Module, heads: float, neurons: float) -> list[Check]:
    """The declared shares of heads (in each block) and neurons (in all) are gone from the
    shapes."""
    checks = []
    for kind, share in (("heads", heads), ("neurons", neurons)):
        if not share:
            continue
        units = [one for one in parts_of(model).units if one.kind == kind]
        before = [_before(model, one) for one in units]
        left = [one.count for one in units]
        gone = [b - now for b, now in zip(before, left, strict=True)]
        if kind == "heads":
            right = gone == [round(share * count) for count in before]
        else:
            right = sum(gone) == round(share * sum(before))
        shaped = all(_shaped(model, one) for one in units)
        figure = (
            f"{sum(gone):,} of {sum(before):,} removed; {min(left)} to {max(left)} left in a block"
        )
        checks.append(Check(f"{kind} removed", right and shaped, figure))
    return checks


def _before(model: nn.Module, units: Units) -> int:
    """How many units there were; layers that lost some remember it."""
    return getattr(model.get_submodule(units.columns[0]), "units_before", units.count)


def _shaped(model: nn.Module, units: Units) -> bool:
    features = units.count * units.size
    rows = all(model.get_submodule(path).weight.shape[0] == features for path in units.rows)
    columns = all(model.get_submodule(path).weight.shape[1] == features for path in units.columns)
    counters = all(
        getattr(model.get_submodule(path), name) == amount * units.count
        for path, name, amount in units.counters
    )
    return rows and columns and counters


def supports_exact(model: nn.Module, roles: Collection[str]) -> Check:
    """The positions of every S2 are distinct and inside its matrix."""
    layers = [m for m in body_linears(model, roles).values() if isinstance(m, SideBranchLinear)]
    good = [
        layer.indices.unique().numel() == layer.values.numel()
        and bool(((layer.indices >= 0) & (layer.indices < layer.weight.numel())).all())
        for layer in layers
    ]
    entries = sum(layer.values.numel() for layer in layers)
    figure = f"{entries} entries of S2 in {len(layers)} matrices"
    return Check("support of S2", all(good) and bool(good), figure)
