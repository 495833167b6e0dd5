"""What methods that make the body's linear layers sparse have in common: which layers those are,
why a pattern does not fit them, the ledger of the result, and the proof that the pattern holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.contract import Check, Fact, Stage
from gossamer.errors import ConfigError
from gossamer.models.parts import ROLES, body_linears, operations, parts_of
from gossamer.sparsity import ledger, masks, scores
from gossamer.sparsity.patterns import Pattern, parse


def problems(
    model: nn.Module, pattern: str, sparsity: float, roles: Collection[str] | None
) -> list[str]:
    """Why the body's layers of these roles (None: all) cannot have `pattern`, of which `sparsity`
    is the share of zeros; one line each, beginning with the argument's name."""
    found = []
    if not 0 < sparsity < 1:
        found.append(f"sparsity={sparsity}: a share between 0 and 1, e.g. 0.5")
    try:
        parsed = parse(pattern)
    except ConfigError as error:
        return [*found, str(error)]
    try:
        layers = body_linears(model, roles)
    except ValueError as error:
        return [*found, f"roles={roles}: {error}"]
    if parsed.density and abs(1 - parsed.density - sparsity) > 1e-2:
        found.append(
            f"sparsity={sparsity}: pattern {parsed} fixes it; set sparsity={1 - parsed.density:.4g}"
        )
    if not layers:
        known = ", ".join(sorted(set(parts_of(model).linear.values())))
        found.append(
            f"roles={roles}: no linear layer of this model has such a role; it has {known}"
        )
    for name, layer in layers.items():
        if problem := parsed.problem(tuple(layer.weight.shape)):
            found.append(
                f"pattern={parsed}: {name} has {problem}; "
                "leave its role out of `roles`, or set pattern=unstructured"
            )
    return found


def prunable(model: nn.Module, roles: Collection[str] | None) -> dict[str, nn.Module]:
    """The operations of these roles, of the body and around it; None: all but the head."""
    return operations(model, [role for role in ROLES if role != "head"] if roles is None else roles)


def operation_problems(model: nn.Module, pattern: str, roles: Collection[str] | None) -> list[str]:
    """Why `prunable` operations cannot have `pattern`, which must be N:M; one line each."""
    try:
        parsed = parse(pattern)
        layers = prunable(model, roles)
    except ConfigError as error:
        return [str(error)]
    except ValueError as error:
        return [f"roles={roles}: {error}"]
    if not parsed.m:
        return [f'pattern={pattern}: this method needs N:M, in quotes, e.g. "2:4"']
    if not layers:
        return [f"roles={roles}: no operation of this model has such a role"]
    return [
        f"pattern={parsed}: {path} has {problem}; leave its role out of `roles`"
        for path, layer in layers.items()
        if (problem := parsed.problem(tuple(layer.weight.flatten(1).shape)))
    ]


def prune_to(pattern: Pattern, layers: Mapping[str, Any], done: Collection[str]) -> Iterator[str]:
    """Give each layer that is not in `done` the mask of its largest weights in N:M, and apply it;
    yields its path. A weight of more dimensions is a matrix (out, all others)."""
    for path, layer in layers.items():
        if path not in done:
            keep = pattern.mask(scores.magnitude(layer.weight).flatten(1), None)
            masks.attach(layer, keep.view_as(layer.weight))
            masks.apply(layer)
            yield path


def n_of_m_problems(model: nn.Module, pattern: str, roles: Collection[str] | None) -> list[str]:
    """Why the body's layers of these roles cannot have `pattern`, which must be N:M."""
    try:
        density = parse(pattern).density
    except ConfigError as error:
        return [str(error)]
    if density is None:
        return [f'pattern={pattern}: this method needs N:M, in quotes, e.g. "2:4"']
    return [
        problem.removesuffix(", or set pattern=unstructured")
        for problem in problems(model, pattern, 1 - density, roles)
    ]


def facts(
    model: nn.Module,
    pattern: str,
    targets: Mapping[str, float],
) -> list[Fact]:
    """A row for every linear layer of the body; those that `targets` (path -> declared density)
    does not name were left alone, for their role was not chosen."""
    return _facts(model, body_linears(model), pattern, targets)


def operation_facts(
    model: nn.Module, pattern: str, targets: Mapping[str, float | None]
) -> list[Fact]:
    """As `facts`, for the operations around the body too."""
    return _facts(model, operations(model), pattern, targets)


def _facts(
    model: nn.Module,
    layers: Mapping[str, Any],
    pattern: str,
    targets: Mapping[str, float | None],
) -> list[Fact]:
    roles = parts_of(model).linear | parts_of(model).outer
    return [
        ledger.fact(path, layer.weight, pattern, target=targets[path])
        if path in targets
        else ledger.fact(path, layer.weight, skipped=f"{roles[path]} is not in roles")
        for path, layer in layers.items()
    ]


def groups_are_sparse(pattern: Pattern, weights: Mapping[str, Tensor]) -> Check:
    """At most N of every M consecutive input weights are not zero, in every layer; pairwise: in as
    many pairs. A weight of more dimensions is a matrix (out, all others)."""
    matrices = {path: weight.flatten(1) for path, weight in weights.items()}
    most = max(int((w != 0).reshape(-1, pattern.m).sum(1).max()) for w in matrices.values())
    broken = [path for path, weight in matrices.items() if not pattern.holds(weight)]
    figure = f"at most {most} of every {pattern.m} weights are not zero, in {len(weights)} layers"
    figure += f"; {broken[0]} does not hold it" if broken else ""
    return Check(f"pattern {pattern}", not broken, figure)


def layers_are_sparse(weights: Mapping[str, Tensor], keep: Mapping[str, int]) -> Check:
    """No layer has more non-zero weights than `keep` says."""
    alive = {name: int(torch.count_nonzero(weight)) for name, weight in weights.items()}
    dense = [name for name in weights if alive[name] > keep[name]]
    figure = f"{len(weights) - len(dense)} of {len(weights)} layers" + "".join(
        f"; {name} keeps {alive[name]:,} weights, not {keep[name]:,}" for name in dense[:1]
    )
    return Check("sparsity of every layer", not dense, figure)


def rows_are_sparse(weights: Mapping[str, Tensor], keep: Mapping[str, int]) -> Check:
    """No row (output feature) of a layer has more non-zero weights than `keep` says."""
    most = {name: int((weight != 0).sum(dim=1).max()) for name, weight in weights.items()}
    dense = [name for name in weights if most[name] > keep[name]]
    figure = f"all rows of {len(weights) - len(dense)} of {len(weights)} layers" + "".join(
        f"; a row of {name} keeps {most[name]:,} weights, not {keep[name]:,}" for name in dense[:1]
    )
    return Check("sparsity of every row", not dense, figure)


def pruned_once(training: list[Stage], recover: float, lr: float | None) -> list[Stage]:
    """The stages of a method that needs no training: `prune`, without a step. With `recover` > 0
    that share of the steps follows it, at learning rate `lr` (None: the training's own), and the
    others come first and train the dense model on."""
    dense = [replace(stage, share=stage.share * (1 - recover)) for stage in training]
    recovery = [
        replace(stage, share=stage.share * recover, lr=stage.lr if lr is None else lr)
        for stage in training
        if stage.share  # one-shot stages of the training come before
    ]
    before = [new for old, new in zip(training, dense, strict=True) if new.share or not old.share]
    if recover == 0:
        before, recovery = [stage for stage in training if not stage.share], []
    return [*before, Stage("prune", share=0.0), *recovery]
