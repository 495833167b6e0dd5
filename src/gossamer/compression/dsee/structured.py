"""Structured pruning: attention heads and feed-forward neurons, by update score or by ℓ1-trained
gates.

A gate c_u multiplies everything that unit u feeds into the next linear layer: for a head, its
columns of the attention output projection (the same as c_u times its attention probabilities after
softmax); for a neuron, its column of the down projection (c_u times its activation). c = 1 changes
nothing and c = 0 removes the unit, so units are gated off in training and cut out of the matrices
at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from gossamer.compression.dsee.adapter import AdaptedLinear
from gossamer.errors import StageError
from gossamer.models.parts import Parts, Units, parts_of
from gossamer.models.surgery import cut_units, replace_module
from gossamer.sparsity.patterns import keep_top

StructureScore = Literal["update", "weight", "random", "gates"]


class GatedLinear(nn.Module):
    """W (c ⊙ x) + b: a frozen linear layer with one gate for every `size` input features.

    (…, in_features) -> (…, out_features). The gates are float32; they start at 1."""

    def __init__(self, linear: nn.Linear, size: int) -> None:
        super().__init__()
        self.weight = linear.weight.requires_grad_(False)
        self.bias = None if linear.bias is None else linear.bias.requires_grad_(False)
        self.size = size
        count, device = linear.in_features // size, linear.weight.device
        self.gate = nn.Parameter(torch.ones(count, device=device), requires_grad=False)
        self.register_buffer("kept", torch.ones(count, dtype=torch.bool, device=device))

    def per_feature(self) -> Tensor:
        """The gate of each input feature, (in_features,), in the dtype of W."""
        return self.gate.repeat_interleave(self.size).to(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate.requires_grad:  # gating x spares the (out, in) gradient that W ∘ c would need
            return F.linear(x * self.per_feature().to(x.dtype), self.weight, self.bias)
        return F.linear(x, self.weight * self.per_feature(), self.bias)

    @torch.no_grad()
    def keep_only(self, kept: Tensor) -> None:
        """Gate off every unit that is False in `kept` (count,); the others keep their gates."""
        self.kept.copy_(kept)
        self.gate.mul_(self.kept)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The plain layer with weight W ∘ c: the same function."""
        out, width = self.weight.shape
        linear = nn.Linear(width, out, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight * self.per_feature(), requires_grad=False)
        linear.bias = self.bias
        return linear


def gated_units(parts: Parts, heads: float, neurons: float) -> list[Units]:
    """The units that a share of heads and a share of neurons concern."""
    shares = {"heads": heads, "neurons": neurons}
    return [units for units in parts.units if shares[units.kind] > 0]


def add_gates(model: nn.Module, heads: float, neurons: float) -> None:
    """Put a gate of 1 on every head and neuron that may be removed. Draws no number."""
    for units in gated_units(parts_of(model), heads, neurons):
        for path in units.columns:
            replace_module(model, path, GatedLinear(model.get_submodule(path), units.size))


def gates(model: nn.Module) -> list[GatedLinear]:
    """Every gated layer of the model, in module order."""
    return [module for module in model.modules() if isinstance(module, GatedLinear)]


def kept_units(model: nn.Module, units: Units) -> Tensor | None:
    """(count,) bool, True = kept; None if these units have no gates."""
    module = model.get_submodule(units.columns[0])
    return module.kept if isinstance(module, GatedLinear) else None


@torch.no_grad()
def unit_scores(model: nn.Module, units: Units, rule: StructureScore, draw: Generator) -> Tensor:
    """The score of each unit, (count,); higher is kept.

    "update": Σ |ΔW| over the unit's rows in every adapted layer of `units.rows` (heads: q and v).
    Where none of them is adapted (neurons, unless `up` is), the same sum of |W|. "weight": Σ |W|
    over the unit's rows of all of them. "random": uniform. "gates": |c|. Raises StageError for
    updates that are all zero: they rank nothing."""
    if rule == "random":
        return torch.rand(units.count, generator=draw, device=draw.device)
    if rule == "gates":
        return sum(model.get_submodule(path).gate.abs() for path in units.columns)
    layers = [model.get_submodule(path) for path in units.rows]
    adapted = [layer for layer in layers if isinstance(layer, AdaptedLinear)]
    if rule == "update" and adapted:
        entries = [layer.update().abs() for layer in adapted]  # (units.count * units.size, in) each
        if not any(bool(entry.any()) for entry in entries):
            raise StageError(
                f"{units.block}: the update is zero, so it cannot rank {units.kind}; tune before "
                "pruning (compression.dsee.tune above 0) or set compression.dsee.structure_score"
            )
    else:
        entries = [layer.weight.detach().abs().float() for layer in layers]
    rows = sum(entry.sum(dim=1) for entry in entries)
    return rows.view(units.count, units.size).sum(dim=1)


def remove_units(
    model: nn.Module,
    heads: float,
    neurons: float,
    rule: StructureScore,
    generator: Callable[[Units], Generator],
) -> None:
    """Gate off round(heads · count) heads in each block and round(neurons · total) neurons over all
    blocks, those with the lowest scores; ties remove the higher index. Each block keeps one neuron
    at least. `generator(units)` is used by the rule "random"."""
    chosen = gated_units(parts_of(model), heads, neurons)
    scores = [unit_scores(model, units, rule, generator(units)) for units in chosen]
    for units, score in zip(chosen, scores, strict=True):
        if units.kind == "heads":
            _keep(model, units, keep_top(score, units.count - round(heads * units.count)))
    wide = [
        (units, score.cpu())
        for units, score in zip(chosen, scores, strict=True)
        if units.kind == "neurons"
    ]
    if wide:
        ranked = [score.clone() for _, score in wide]
        for score in ranked:
            score[score.argmax()] = torch.inf
        together = torch.cat(ranked)
        kept = keep_top(together, together.numel() - round(neurons * together.numel()))
        for (units, _), part in zip(wide, kept.split([len(s) for s in ranked]), strict=True):
            _keep(model, units, part)


def _keep(model: nn.Module, units: Units, kept: Tensor) -> None:
    for path in units.columns:
        model.get_submodule(path).keep_only(kept)


def cut_gated(model: nn.Module) -> None:
    """Fold every gate into its weights and cut the units that are gated off out of the matrices.
    The layers that had gates remember the number of units there were as `units_before`."""
    parts = parts_of(model)
    kept = {units: kept_units(model, units) for units in parts.units}
    for units, keep in kept.items():
        if keep is None:
            continue
        for path in units.columns:
            plain = model.get_submodule(path).folded()
            plain.units_before = units.count  # a note for `verify`; it travels with the export
            replace_module(model, path, plain)
        if not bool(keep.all()):
            cut_units(model, units, keep.nonzero().flatten())
