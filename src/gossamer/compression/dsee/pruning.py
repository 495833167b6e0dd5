"""One-shot unstructured pruning of the frozen W: the mask M of eq. (1), in two global groups.

The projections with an update form one group, all other linear layers of the body (key, attention
output, feed-forward) the other. Each group has one threshold over all its weights and ends
at exactly round(sparsity · weights) zeros. Weights of heads and neurons that were removed do not
count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from gossamer.compression.dsee.adapter import AdaptedLinear
from gossamer.compression.dsee.structured import kept_units
from gossamer.errors import ConfigError, StageError
from gossamer.models.parts import body_linears, parts_of
from gossamer.sparsity import distributions, masks, patterns, scores

ScoreRule = Literal["update", "weight", "merged", "random"]
UNSTRUCTURED = patterns.parse("unstructured")


def update_scores(module: AdaptedLinear, rule: ScoreRule, draw: Generator) -> Tensor:
    """The score of each weight of an adapted layer, (out, in): |ΔW| ("update"; ABS in the released
    code), |W| ("weight"), |W + ΔW| ("merged"), or uniform ("random")."""
    match rule:
        case "update":
            return module.update().abs()
        case "weight":
            return scores.magnitude(module.weight)
        case "merged":
            return module.merged().abs()
        case "random":
            return scores.random(module.weight, draw)
    raise ConfigError(f"compression.dsee.score={rule!r}: choose update, weight, merged or random")


def prune_weights(
    model: nn.Module,
    sparsity: float,
    update_sparsity: float,
    rule: ScoreRule,
    generator: Callable[[str], Generator],
) -> None:
    """Set the masks of all body layers and apply them in place. `sparsity` is that of the layers
    without an update, scored by |W|; `update_sparsity` that of the adapted ones, scored by `rule`.
    `generator(path)` is used by the rule "random".

    Raises StageError where updates are zero and ties would choose the mask (an untrained
    update)."""
    linears = body_linears(model)
    adapted = {path: m for path, m in linears.items() if isinstance(m, AdaptedLinear)}
    others = {path: m for path, m in linears.items() if path not in adapted}
    regions = remaining(model)
    if sparsity and others:
        plain = {path: scores.magnitude(module.weight) for path, module in others.items()}
        _prune_group(model, _inside(plain, regions), regions, sparsity)
    if update_sparsity:
        own = {path: update_scores(m, rule, generator(path)) for path, m in adapted.items()}
        own = _inside(own, regions)
        if rule == "update":
            _refuse_ties(own, update_sparsity)
        _prune_group(model, own, regions, update_sparsity)


def _refuse_ties(updates: dict[str, Tensor], sparsity: float) -> None:
    entries = sum(update.numel() for update in updates.values())
    changed = sum(int(update.count_nonzero()) for update in updates.values())
    if changed < entries - round(sparsity * entries):
        raise StageError(
            f"the update is zero on {entries - changed} of {entries} weights, so it cannot rank "
            "them; tune before pruning (compression.dsee.tune above 0) or set "
            "compression.dsee.score=weight"
        )


Region = tuple[Tensor, Tensor]  # int64 indices of rows and of columns


def remaining(model: nn.Module) -> dict[str, Region]:
    """{path: (rows, columns)}: the features of each body layer that are not gated off."""
    linears = body_linears(model)
    left = {
        path: [_all(module.weight, axis) for axis in (0, 1)] for path, module in linears.items()
    }
    for units in parts_of(model).units:
        kept = kept_units(model, units)
        if kept is None:
            continue
        features = kept.repeat_interleave(units.size).nonzero().flatten()
        for axis, paths in enumerate((units.rows, units.columns)):
            for path in paths:
                left[path][axis] = features
    return {path: (rows, columns) for path, (rows, columns) in left.items()}


def _all(weight: Tensor, axis: int) -> Tensor:
    return torch.arange(weight.shape[axis], device=weight.device)


def _inside(score: dict[str, Tensor], regions: dict[str, Region]) -> dict[str, Tensor]:
    return {path: values[regions[path][0]][:, regions[path][1]] for path, values in score.items()}


def _prune_group(
    model: nn.Module, score: dict[str, Tensor], regions: dict[str, Region], sparsity: float
) -> None:
    for path, keep in distributions.over_group(score, UNSTRUCTURED, sparsity).items():
        module = model.get_submodule(path)
        rows, columns = regions[path]
        mask = torch.ones_like(module.weight, dtype=torch.bool)
        mask[rows[:, None], columns] = UNSTRUCTURED.mask(score[path], keep)
        masks.attach(module, mask)
        masks.apply(module)
