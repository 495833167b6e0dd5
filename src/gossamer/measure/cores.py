"""What a finished model is timed in on tensor cores: 2:4 kernels and int8 products, each against
the dense twin in bfloat16, which is what it is best run in."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.measure import int8, semi_structured
from gossamer.measure.speed import RUNTIME, speed
from gossamer.models.surgery import replace_module
from gossamer.quantization.packed import Packed, PackedConv2d


def plain(model: nn.Module) -> nn.Module:
    """A copy with float layers of the weights that packed ones stand for, in their place."""
    small = copy.deepcopy(model)
    for path, layer in list(small.named_modules()):
        if isinstance(layer, Packed):
            replace_module(small, path, _plain(layer))
    return small


def _plain(layer: Packed) -> nn.Module:
    with torch.device("meta"):
        if isinstance(layer, PackedConv2d):
            kernel: Any = tuple(layer.shape[2:])
            made: Any = nn.Conv2d(
                layer.shape[1] * layer.groups,
                layer.shape[0],
                kernel,
                stride=layer.stride,  # type: ignore[arg-type]
                padding=layer.padding,  # type: ignore[arg-type]
                dilation=layer.dilation,  # type: ignore[arg-type]
                groups=layer.groups,
                bias=layer.bias is not None,
            )
        else:
            made = nn.Linear(layer.shape[1], layer.shape[0], layer.bias is not None)
    made.weight, made.bias = nn.Parameter(layer.weight, requires_grad=False), layer.bias
    return made


def on_sparse(
    dense: nn.Module,
    compressed: nn.Module,
    workloads: Mapping[str, Mapping[str, Any]],
    layers: Sequence[str],
) -> list[dict[str, Any]]:
    """Both in bfloat16: what the kernels run, and what a dense model is best run in. Of packed
    layers these are the products of their weights with inputs that are not quantised."""
    rough = copy.deepcopy(dense).to("cuda", torch.bfloat16)
    small = plain(compressed).to("cuda", torch.bfloat16)
    left = semi_structured.compress(small, layers)
    if len(left) == len(layers):
        reason = f"no layer is eligible for 2:4 kernels: {next(iter(left.items()))}"
        return [{"workload": name, "skipped": reason} for name in workloads]
    notes = [f"left dense: {path}, {why}" for path, why in left.items()]
    told = f"{RUNTIME}, 2:4 kernels in {len(layers) - len(left)} of {len(layers)} sparse layers"
    return _in_bfloat16(rough, small, workloads, told, notes)


def on_integer(
    dense: nn.Module, compressed: nn.Module, workloads: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Int8 products in a model that is in bfloat16 otherwise, against the dense model in it. Never
    run on a GPU so far."""
    rough = copy.deepcopy(dense).to("cuda", torch.bfloat16)
    whole = copy.deepcopy(compressed).to("cuda")
    layers = sum(isinstance(each, Packed) for each in whole.modules())
    count, told = int8.convert(whole)
    if not count:
        reason = f"no layer is eligible for int8 products: {next(iter(told.items()))}"
        return [{"workload": name, "skipped": reason} for name in workloads]
    small = plain(whole)
    for module in small.modules():
        if not isinstance(module, int8.Int8Linear):  # whose scales stay as they are
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.to(torch.bfloat16)
    notes = [f"{path}: {why}" for path, why in told.items()]
    runtime = f"{RUNTIME}, int8 products in {count} of {layers} quantised layers"
    return _in_bfloat16(rough, small, workloads, runtime, notes)


def _in_bfloat16(
    dense: nn.Module,
    compressed: nn.Module,
    workloads: Mapping[str, Mapping[str, Any]],
    runtime: str,
    notes: Sequence[str],
) -> list[dict[str, Any]]:
    given = {
        name: {
            key: value.to(torch.bfloat16)
            if isinstance(value, Tensor) and value.is_floating_point()
            else value
            for key, value in inputs.items()
        }
        for name, inputs in workloads.items()
    }
    return speed(dense, compressed, given, device="cuda", runtime=runtime, notes=notes)
