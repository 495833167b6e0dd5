"""A finished image model as one ONNX file, which ONNX Runtime runs here and TensorRT elsewhere.

The graph is explicitly quantised: a layer of 8-bit integers becomes

    x -> QuantizeLinear -> DequantizeLinear ---\\
    int8 weight (in, out) -> DequantizeLinear -> MatMul -> Add(bias)

with the symmetric, static scale of its input (one number) and the scales of its output channels. A
runtime that knows the form computes an integer product from it (ONNX Runtime: MatMulIntegerToFloat,
int32 sums), one that does not computes what it says in floats. A convolution whose kernel is as
large as its stride is a product of patches, and is written as one: as a convolution it would stay
one of floats, because its output is not quantised. What is not a packed layer stays as it is.

The weight lies in the file as one byte for each element, zeros of 2:4 too: they are exact, and no
pattern is compressed in the file (TensorRT finds 2:4 by itself). Attention with chosen keys is
written with its map as a mask, whatever its kernel: the same logits, and no product is saved. Fewer
bits than 8 have no integer product in any runtime, so a model that has them is refused.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.contract import Check
from gossamer.data.info import DataInfo
from gossamer.errors import ConfigError
from gossamer.export.agreement import agreement
from gossamer.export.bundle import Bundle
from gossamer.models.attention import SelectiveAttention
from gossamer.models.surgery import replace_module
from gossamer.quantization.packed import Packed, PackedConv2d, PackedLinear

OUTPUT = "logits"
BITS = 8  # of the only grid that runtimes have integer products for
BATCHES = 1 << 16  # the most rows that the dynamic batch may have


class Onnx(Bundle):
    """The choice `export=onnx`: the folder of `export=default`, and the ONNX file in it."""

    file = "model.onnx"

    def requirements(self, info: DataInfo) -> list[str]:
        if info.kind == "image":
            return []
        return [
            f"export=onnx: only image models are written as ONNX, and {info.name} is {info.kind}; "
            "type export=default"
        ]

    def refused(self, model: nn.Module) -> str | None:
        return simulated(model)

    def write(self, model: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> Path:
        return write(model, inputs, path)

    def checks(
        self, model: nn.Module, inputs: Mapping[str, Tensor], path: Path, run: Callable[..., Tensor]
    ) -> list[Check]:
        layers, lost = packed_layers(model), missing(model, path)
        return [
            Check(
                "ONNX holds the exported integers",
                not lost,
                f"{len(layers) - len(lost)} of {len(layers)} layers bit by bit"
                + f"; not {', '.join(lost)}" * bool(lost),
            ),
            agreement("ONNX agrees with torch", model, run, inputs),
        ]


def simulated(model: nn.Module) -> str | None:
    """Why a model has no integer graph; None: it can be written."""
    low = {path: each.bits for path, each in packed_layers(model).items() if each.bits != BITS}
    if not low:
        return None
    bits = next(iter(low.values()))
    return f"simulated: no runtime has INT{bits} products ({len(low)} layers)"


def write(model: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> Path:
    """Write `model`, on the CPU, to `path` by torch's exporter; `inputs` are one batch of at least
    two rows, whose first dimension becomes the dynamic "batch". The file is checked by ONNX's own
    checker. The model is left as it was.

    Raises ConfigError for a model that is simulated."""
    import onnx

    if reason := simulated(model):
        raise ConfigError(f"{path.name}: {reason}")
    graph = _written(model)
    batch = torch.export.Dim("batch", min=1, max=BATCHES)
    with warnings.catch_warnings():  # of torch's own making: LeafSpec, copied constants
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (),
            kwargs=dict(inputs),
            dynamo=True,
            dynamic_shapes={name: {0: batch} for name in inputs},
            input_names=list(inputs),
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():  # which lines of which files made it
        node.metadata_props.clear()
    part = path.with_suffix(".part")
    program.save(part, external_data=False)
    onnx.checker.check_model(str(part), full_check=True)
    part.replace(path)
    return path


def packed_layers(model: nn.Module) -> dict[str, Packed]:
    return {path: each for path, each in model.named_modules() if isinstance(each, Packed)}


def missing(model: nn.Module, path: Path) -> list[str]:
    """The packed layers whose integers or scales are not in the file, as they are in the model."""
    import onnx
    from onnx.numpy_helper import to_array

    found = {each.name: to_array(each) for each in onnx.load(path).graph.initializer}
    lost = []
    for name, layer in packed_layers(model).items():
        whole = _stand_in(layer).weight.numpy()
        stored, scale = found.get(f"{name}.weight"), found.get(f"{name}.scale")
        same = stored is not None and stored.dtype == whole.dtype and (stored == whole).all()
        if not same or scale is None or (scale != layer.scale.numpy()).any():
            lost.append(name)
    return lost


def _written(model: nn.Module) -> nn.Module:
    """A copy of the model with a stand-in of ONNX operators for each packed layer; attention with
    chosen keys is masked in it, as ONNX has no operator that skips what is not chosen."""
    graph = copy.deepcopy(model).eval().requires_grad_(False)
    for module in graph.modules():
        if isinstance(module, SelectiveAttention):
            module.kernel = "masked"
    for path, layer in packed_layers(graph).items():
        replace_module(graph, path, _stand_in(layer))
    return graph


def _stand_in(layer: Packed) -> Qdq:
    if isinstance(layer, PackedLinear):
        return QdqLinear(layer)
    if isinstance(layer, PackedConv2d):
        return QdqPatches(layer) if _of_patches(layer) else QdqConv2d(layer)
    raise ConfigError(f"export=onnx: a {type(layer).__name__} has no form in ONNX")


def _of_patches(layer: PackedConv2d) -> bool:
    kernel = tuple(layer.shape[2:])
    plain = (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
    return plain and layer.stride == kernel


class Qdq(nn.Module):
    """What stands for a packed layer while it is exported: symbolic operators, no numbers.

    Args:
        weight: the integers, int8, in the shape that the product reads
        axis: of `weight`, along which the scales (out,) go
    """

    weight: Tensor
    scale: Tensor
    zeros: Tensor
    input_scale: Tensor
    input_zero: Tensor

    def __init__(self, layer: Packed, weight: Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("scale", layer.scale)
        self.register_buffer("zeros", torch.zeros_like(layer.scale, dtype=torch.int8))
        self.register_buffer("input_scale", layer.input_scale)
        self.register_buffer("input_zero", torch.zeros((), dtype=torch.int8))
        self.bias = layer.bias

    def quantized(self, x: Tensor) -> Tensor:
        given = (x, self.input_scale, self.input_zero)
        return _symbolic("QuantizeLinear", given, torch.int8, x.shape)

    def dequantized(self, x: Tensor) -> Tensor:
        given = (x, self.input_scale, self.input_zero)
        return _symbolic("DequantizeLinear", given, torch.float32, x.shape)

    def matrix(self) -> Tensor:
        given = (self.weight, self.scale, self.zeros)
        shape = self.weight.shape
        return _symbolic("DequantizeLinear", given, torch.float32, shape, axis=self.axis)

    def product(self, x: Tensor) -> Tensor:
        """int8 x (…, in) -> (…, out)"""
        y = torch.matmul(self.dequantized(x), self.matrix())
        return y if self.bias is None else y + self.bias


class QdqLinear(Qdq):
    """x (…, in) -> (…, out)"""

    def __init__(self, layer: PackedLinear) -> None:
        super().__init__(layer, layer.integers().t(), axis=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(self.quantized(x))


class QdqPatches(Qdq):
    """x (B, C, H, W) -> (B, out, H / P, W / Q) of patches of P x Q pixels."""

    def __init__(self, layer: PackedConv2d) -> None:
        super().__init__(layer, layer.integers().flatten(1).t(), axis=1)
        self.kernel = tuple(layer.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.kernel
        x = x.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))  # (B, C, h, P, w, Q)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, h, w, C * P * Q)
        return self.product(self.quantized(x)).permute(0, 3, 1, 2)


class QdqConv2d(Qdq):
    """x (B, C, H, W) -> (B, out, H', W')"""

    def __init__(self, layer: PackedConv2d) -> None:
        super().__init__(layer, layer.integers(), axis=0)
        self.geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dequantized(self.quantized(x))
        return F.conv2d(x, self.matrix(), self.bias, *self.geometry)


def _symbolic(
    operator: str, given: tuple[Tensor, ...], dtype: torch.dtype, shape: Any, **attrs: int
) -> Tensor:
    """One node of the graph: its operator of the ONNX domain, inputs and attributes; nothing is
    computed, the result's dtype and shape are what is said here."""
    told: dict[str, Any] = dict(attrs)
    return torch.onnx.ops.symbolic(operator, given, attrs=told, dtype=dtype, shape=shape)
