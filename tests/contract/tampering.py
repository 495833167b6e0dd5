"""Ways in which a finished model can stop being what its method claims."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from gossamer.compression.dsee import SideBranchLinear
from gossamer.models.attention import attentions
from gossamer.models.connectivity import Fixed
from gossamer.models.low_rank_attention import low_rank_attentions
from gossamer.models.parts import body_linears, parts_of
from gossamer.models.token_blocks import pruned_blocks
from gossamer.quantization.packed import Packed


@torch.no_grad()
def off_the_grid(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """One weight is half a step from where the integers can be."""
    layer = next(iter(body_linears(model).values()))
    layer.weight[0, 0] += layer.scale[0] / 2


@torch.no_grad()
def zero_filled(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """One of the zeros of the first sparse layer is none."""
    for layer in body_linears(model).values():
        zeros = (layer.weight == 0).nonzero()
        if len(zeros):
            layer.weight[tuple(zeros[0])] = 0.01
            return
    raise AssertionError("the model has no zero to fill")


@torch.no_grad()
def weights_shuffled(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """The largest and the smallest weight of the first layer change places."""
    layer = next(iter(body_linears(model).values()))
    weight = (layer.values if isinstance(layer, Packed) else layer.weight).view(-1)
    high, low = weight.argmax(), weight.argmin()
    weight[high], weight[low] = weight[low].clone(), weight[high].clone()


def adapter_left(model: nn.Module, methods: Mapping[str, Any]) -> None:
    methods["lora"].prepare(model)


@torch.no_grad()
def support_doubled(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """Two values of one sparse residual stand in the same place."""
    layer = next(m for m in body_linears(model).values() if isinstance(m, SideBranchLinear))
    layer.indices[1] = layer.indices[0]


@torch.no_grad()
def neuron_back(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """The first block has one neuron more, which computes nothing."""
    units = next(one for one in parts_of(model).units if one.kind == "neurons")
    for path in units.rows:
        layer = model.get_submodule(path)
        layer.weight = nn.Parameter(nn.functional.pad(layer.weight, (0, 0, 0, 1)))
        layer.bias = nn.Parameter(nn.functional.pad(layer.bias, (0, 1)))
        layer.out_features += 1
    for path in units.columns:
        layer = model.get_submodule(path)
        layer.weight = nn.Parameter(nn.functional.pad(layer.weight, (0, 1)))
        layer.in_features += 1
    model.parts = parts_of(model).with_units(units, replace(units, count=units.count + 1))


def budget_raised(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """The first block's queries attend to one key more."""
    connectivity = next(iter(attentions(model).values())).connectivity
    connectivity.budget += 1
    if isinstance(connectivity, Fixed):  # its map is made for good
        fixed = connectivity.get_buffer("fixed")
        fixed[tuple((~fixed).nonzero()[0])] = True


def token_back(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """One patch more is left by the first block that removes any."""
    block = next(one for one in pruned_blocks(model) if one.left is not None)
    block.left += 1


@torch.no_grad()
def rank_raised(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """The first block keeps one key and one value more: those of the last token."""
    layer = next(iter(low_rank_attentions(model).values()))
    last = nn.functional.one_hot(torch.tensor([layer.tokens - 1]), layer.tokens).T.float()
    for name in ("keys", "values"):
        setattr(layer, name, nn.Parameter(torch.cat([getattr(layer, name), last], 1)))


TAMPERINGS: dict[str, Callable[[nn.Module, Mapping[str, Any]], None]] = {
    "zero filled": zero_filled,
    "off the grid": off_the_grid,
    "weights shuffled": weights_shuffled,
    "adapter left": adapter_left,
    "support doubled": support_doubled,
    "neuron back": neuron_back,
    "budget raised": budget_raised,
    "token back": token_back,
    "rank raised": rank_raised,
}
