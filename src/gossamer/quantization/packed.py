"""A quantised linear layer or convolution of a finished model: integers in few bytes.

What a fake-quantised layer computes, bit by bit: the input goes to its grid, the weight is what the
integers stand for, and the product is one of floats. It is stored small; it is not faster. The
unpacked weight is kept beside the integers, made when it is first asked for, on their device; it is
no part of the state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.quantization import grid, packing


class Packed(nn.Module, ABC):
    """Integers (out, …) of `bits` bits in a pattern, one scale per output channel, one for the
    input; a bias (out,) in float32. `arguments` are those of the constructor."""

    values: Tensor  # uint8
    positions: Tensor | None  # uint8; None: dense
    scale: Tensor  # (out,) float32
    input_scale: Tensor  # () float32
    arguments: dict[str, Any]

    def __init__(self, shape: Sequence[int], bias: bool, bits: int, pattern: str) -> None:
        super().__init__()
        grid.largest(bits)  # raises where there is no such grid
        self.shape, self.bits, self.pattern = tuple(shape), bits, pattern
        sizes = packing.stored_shapes(self._matrix(), bits, pattern)
        for name in ("values", "positions"):
            size = sizes.get(name)
            stored = None if size is None else torch.zeros(size, dtype=torch.uint8)
            self.register_buffer(name, stored)
        self.register_buffer("scale", torch.ones(shape[0]))
        self.register_buffer("input_scale", torch.ones(()))
        self.register_parameter("bias", nn.Parameter(torch.zeros(shape[0])) if bias else None)
        # a list: export.manifest.unsaved would take a bare tensor for something to save
        self._unpacked: list[Any] = []

    @torch.no_grad()
    def fill(
        self, integers: Tensor, scale: Tensor, input_scale: Tensor, bias: Tensor | None
    ) -> None:
        """Take over integers (out, …) int8, scale (out,), input_scale () and bias (out,)."""
        stored = packing.pack(integers.flatten(1), self.bits, self.pattern)
        for name, tensor in (*stored.items(), ("scale", scale), ("input_scale", input_scale)):
            setattr(self, name, tensor.detach().clone())
        if bias is not None:
            self.bias = nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)

    def integers(self) -> Tensor:
        """int8 (out, …), in the shape of the weight."""
        positions = self.positions
        whole = packing.unpack(self.values, positions, self._matrix(), self.bits, self.pattern)
        return whole.reshape(self.shape)

    @property
    def weight(self) -> Tensor:
        """The weight (out, …) float32 that the integers stand for: always the same tensor, as long
        as they stay what and where they are."""
        if torch.compiler.is_compiling():  # no graph can ask whether a tensor has changed
            made = self.unpacked()
            return grid.dequantized(self.integers(), self.scale) if made is None else made
        sources = [t for t in (self.values, self.positions, self.scale) if t is not None]
        versions = [None if t.is_inference() else t._version for t in sources]
        if not self._unpacked or not self._current(sources, versions):
            with torch.inference_mode(False), torch.no_grad():
                weight = grid.dequantized(self.integers(), self.scale)
            self._unpacked = [sources, versions, weight]
        return self._unpacked[2]

    def unpacked(self) -> Tensor | None:
        """`weight` if it was made already, else None: memory that is taken beside the state."""
        return self._unpacked[2] if self._unpacked else None

    def forward(self, x: Tensor) -> Tensor:
        x = grid.quantized_input(x, self.input_scale, self.bits)
        return self._product(x, self.weight.to(x.dtype))

    def _apply(self, fn: Any, recurse: bool = True) -> Packed:
        """Scales stay float32 when the model goes to another dtype: rounded ones would be another
        grid."""
        scales = {name: self._buffers[name] for name in ("scale", "input_scale")}
        super()._apply(fn, recurse)
        for name, scale in scales.items():
            moved = self._buffers[name]
            if scale is not None and moved is not None and moved.dtype != scale.dtype:
                self._buffers[name] = scale.to(moved.device)
        return self

    @abstractmethod
    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        """The float product of inputs and weight, with the bias."""

    def _current(self, sources: list[Tensor], versions: list[int | None]) -> bool:
        """Was the weight unpacked from these very tensors, unchanged since?"""
        same = all(old is new for old, new in zip(self._unpacked[0], sources, strict=True))
        return same and self._unpacked[1] == versions

    def _matrix(self) -> tuple[int, int]:
        return self.shape[0], int(torch.Size(self.shape[1:]).numel())

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.arguments.items())


class PackedLinear(Packed):
    """In the place of an `nn.Linear`: x (…, in) -> (…, out)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool, bits: int, pattern: str
    ) -> None:
        super().__init__((out_features, in_features), bias, bits, pattern)
        self.in_features, self.out_features = in_features, out_features
        self.arguments = {
            "in_features": in_features,
            "out_features": out_features,
            "bias": bias,
            "bits": bits,
            "pattern": pattern,
        }

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight, self.bias)


class PackedConv2d(Packed):
    """In the place of an `nn.Conv2d`: x (B, C, H, W) -> (B, out, H', W'), zero padding. `shape` is
    its weight's: (out, C / groups, height, width)."""

    def __init__(
        self,
        shape: Sequence[int],
        bias: bool,
        bits: int,
        pattern: str,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__(shape, bias, bits, pattern)
        self.stride, self.padding = tuple(stride), tuple(padding)
        self.dilation, self.groups = tuple(dilation), groups
        self.arguments = {
            "shape": list(shape),
            "bias": bias,
            "bits": bits,
            "pattern": pattern,
            "stride": list(stride),
            "padding": list(padding),
            "dilation": list(dilation),
            "groups": groups,
        }

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
