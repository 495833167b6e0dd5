"""The distribution axis: how a sparsity over a group of layers is shared out between them.

Each function takes the layers' weight scores {name: (out, in)} in execution order, a pattern and
the `sparsity` (share of the group's weights to drop), and returns {name: units to keep}, which
`Pattern.mask(score, keep)` turns into masks. `uniform` and `erk` look at shapes only, so they also
work on the meta device. N:M patterns fix every layer's density and are not shared out: each raises
ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gossamer.sparsity.patterns import Pattern, keep_top

Distribution = Callable[[Mapping[str, Tensor], Pattern, float], dict[str, int]]


def uniform(scores: Mapping[str, Tensor], pattern: Pattern, sparsity: float) -> dict[str, int]:
    """Every layer drops the same share of its units, rounded to the nearest unit."""
    _check(pattern, sparsity)
    units = {name: pattern.units(tuple(score.shape)) for name, score in scores.items()}
    return {name: count - round(sparsity * count) for name, count in units.items()}


def over_group(scores: Mapping[str, Tensor], pattern: Pattern, sparsity: float) -> dict[str, int]:
    """One threshold over the whole group ("global" pruning).

    Where all units have the same size, exactly round(sparsity · units) are dropped; ties go to the
    earlier layer, then to the lower index. Rows and columns of unlike layers differ in size: they
    are ranked by their score per weight, and the number kept is the one whose weights come nearest
    to the budget, so the group's sparsity is met to half of a unit. A layer may lose all its
    units."""
    _check(pattern, sparsity)
    if not scores:
        return {}
    units = {name: pattern.unit_scores(score.detach()).flatten() for name, score in scores.items()}
    size = {name: pattern.unit_size(tuple(score.shape)) for name, score in scores.items()}
    if len(set(size.values())) == 1:
        ranked = torch.cat(list(units.values()))
        kept = keep_top(ranked, ranked.numel() - round(sparsity * ranked.numel()))
    else:
        ranked = torch.cat([score / size[name] for name, score in units.items()])
        weights = torch.cat(
            [torch.full_like(s, size[n], dtype=torch.long) for n, s in units.items()]
        )
        order = ranked.argsort(descending=True, stable=True)
        spent = torch.cat(
            [weights.new_zeros(1), weights[order].cumsum(0)]
        )  # after keeping 0, 1, 2 …
        budget = int(spent[-1]) - round(sparsity * int(spent[-1]))
        kept = keep_top(ranked, int((spent - budget).abs().argmin()))
    parts = kept.split([score.numel() for score in units.values()])
    return {name: int(part.sum()) for name, part in zip(units, parts, strict=True)}


def erk(scores: Mapping[str, Tensor], pattern: Pattern, sparsity: float) -> dict[str, int]:
    """Erdős–Rényi(-kernel): a layer's density is ε · (sum of its dimensions) / (their product),
    with one ε for the group (Mocanu et al., 2018; Evci et al., 2020, section 3). Layers that this
    would make denser than 1 are kept whole, and ε is solved again for the rest. The fractional
    units are rounded so that the group keeps its budget exactly (to less than one unit where units
    differ in size)."""
    _check(pattern, sparsity)
    shapes = {name: tuple(score.shape) for name, score in scores.items()}
    size = {name: pattern.unit_size(shape) for name, shape in shapes.items()}
    total = sum(math.prod(shape) for shape in shapes.values())
    budget = total - round(sparsity * total)  # weights to keep
    whole: set[str] = set()
    while True:
        rest = [name for name in shapes if name not in whole]
        left = budget - sum(math.prod(shapes[name]) for name in whole)
        epsilon = left / max(1, sum(sum(shapes[name]) for name in rest))
        full = {name for name in rest if epsilon * sum(shapes[name]) >= math.prod(shapes[name])}
        if not full:
            break
        whole |= full
    ideal = {name: epsilon * sum(shapes[name]) / size[name] for name in rest}  # units, fractional
    keep = {name: pattern.units(shape) for name, shape in shapes.items()}
    keep.update({name: int(count) for name, count in ideal.items()})
    left = budget - sum(keep[name] * size[name] for name in shapes)
    for name in sorted(rest, key=lambda name: keep[name] - ideal[name]):  # largest remainder first
        if 2 * left >= size[name]:
            keep[name] += 1
            left -= size[name]
    return keep


def _check(pattern: Pattern, sparsity: float) -> None:
    if pattern.density is not None:
        raise ValueError(f"pattern {pattern} fixes the density of every layer")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is a share from 0 to 1, not {sparsity}")
