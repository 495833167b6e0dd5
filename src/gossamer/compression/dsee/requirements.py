"""What a configuration of DSEE asks of a model, checked on shapes alone. One line for each
problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from gossamer.models.parts import Parts, body_linears

if TYPE_CHECKING:
    from gossamer.compression.dsee import DSEE


def problems(method: DSEE, parts: Parts, model: nn.Module) -> list[str]:
    """Every problem of `method` with `model`, which may be on the meta device."""
    return [*_values(method), *_roles(method, parts, model), *_units(method, parts)]


def _values(method: DSEE) -> list[str]:
    found = []
    shares = {"sparsity": method.sparsity, "heads": method.heads, "neurons": method.neurons}
    if method.update_sparsity != method.sparsity:  # else it follows the other one
        shares["update_sparsity"] = method.update_sparsity
    for key, value in shares.items():
        if not 0 <= value < 1:
            found.append(f"{key}={value}: a share to remove, from 0 up to but not 1, e.g. 0.5")
    for key in ("alpha", "lr"):
        if getattr(method, key) <= 0:
            found.append(f"{key}={getattr(method, key)}: must be above 0")
    for key, least in (("rank", 1), ("residual", 0), ("gate_l1", 0)):
        if getattr(method, key) < least:
            found.append(f"{key}={getattr(method, key)}: must be {least} or more")
    if not 0 <= method.tune <= 1:
        found.append(f"tune={method.tune}: a share of the steps, from 0 to 1")
    needs = []
    if method.update_sparsity > 0 and method.score == "update":
        needs.append("score=update")
    if method.structured and method.structure_score in ("update", "gates"):
        needs.append(f"structure_score={method.structure_score}")
    if method.tune == 0:
        found += [f"tune=0: {key} ranks by what tuning has learnt; set tune=0.5" for key in needs]
    return found


def _roles(method: DSEE, parts: Parts, model: nn.Module) -> list[str]:
    known = sorted(set(parts.linear.values()))
    unknown = [role for role in method.roles if role not in known]
    if unknown or not method.roles:
        return [f"roles={list(method.roles)}: this model has the roles {', '.join(known)}"]
    found = []
    if method.sparsity > 0 and set(known) <= set(method.roles):
        found.append(
            f"sparsity={method.sparsity}: every layer has an update, so there is none without one; "
            f"set sparsity=0 update_sparsity={method.update_sparsity}"
        )
    shapes = {tuple(m.weight.shape) for m in body_linears(model, method.roles).values()}
    thinnest, smallest = min(min(shape) for shape in shapes), min(o * i for o, i in shapes)
    if method.rank > thinnest:
        found.append(f"rank={method.rank}: the thinnest of these layers has rank {thinnest}")
    if method.residual > smallest:
        found.append(
            f"residual={method.residual}: the smallest of these layers has {smallest} weights"
        )
    for share, key, role in (
        (method.heads, "heads", "attention_output"),
        (method.neurons, "neurons", "down"),
    ):
        if share > 0 and role in method.roles:
            found.append(f"{key}={share}: its gates stand on {role}; leave {role} out of roles")
    return found


def _units(method: DSEE, parts: Parts) -> list[str]:
    found = []
    counts = {
        kind: [u.count for u in parts.units if u.kind == kind] for kind in ("heads", "neurons")
    }
    for kind, share in (("heads", method.heads), ("neurons", method.neurons)):
        if not 0 < share < 1:
            continue
        if not counts[kind]:
            found.append(f"{kind}={share}: this model names no {kind} that can be removed")
            continue
        if kind == "heads":
            total, least, where = min(counts[kind]), 1, "a block"
        else:
            total, least, where = sum(counts[kind]), len(counts[kind]), "all blocks"
        removed = round(share * total)
        if removed == 0:
            found.append(f"{kind}={share}: removes none of the {total} {kind} of {where}")
        if total - removed < least:
            found.append(f"{kind}={share}: removes {removed} of the {total} {kind} of {where}")
    return found
