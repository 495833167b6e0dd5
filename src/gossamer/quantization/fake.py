"""Layers that train as if they were quantised, and their inference-only form.

While `active`, weight and input go to their grids before the product (grid.py), in float32 also
where autocast computes the product in another dtype. The weight's scales follow the weight, the
input's is fixed: `input_amax` is 0 until someone has calibrated it (observers.py) and stays what it
then is. The weight itself stays the float it trains as; zeros of a static mask stay zeros."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import ConfigError, StageError
from gossamer.quantization import grid, packing
from gossamer.quantization.packed import Packed, PackedConv2d, PackedLinear


class FakeQuantized(nn.Module, ABC):
    """Takes over the weight (out, …), the bias and a static mask of the layer it replaces."""

    weight: Tensor
    bias: Tensor | None
    input_amax: Tensor  # () float32: the largest magnitude of an input that is not clipped

    def __init__(self, layer: nn.Linear | nn.Conv2d, bits: int) -> None:
        super().__init__()
        grid.largest(bits)  # raises where there is no such grid
        self.bits, self.active = bits, False
        self.weight, self.bias = layer.weight, layer.bias
        zero = torch.zeros((), dtype=torch.float32, device=layer.weight.device)
        self.register_buffer("input_amax", zero)
        if "weight_mask" in layer._buffers:
            self.register_buffer("weight_mask", layer.get_buffer("weight_mask"))
        self._seen: tuple[Any, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Is the range of the input known? Waits for the device."""
        return bool(self.input_amax.isfinite() & (self.input_amax > 0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.active:
            return self._product(x, self.weight)
        x = grid.quantized_input(x, self._input_scale(), self.bits)
        return self._product(x, grid.quantized_weight(self.weight, self.bits))

    def packed(self) -> Packed:
        """The same layer for inference: its integers, in the pattern that takes the fewest bytes.
        Computes bit by bit what this one does while it is active.

        Raises StageError if the input was not calibrated."""
        scale = grid.weight_scale(self.weight, self.bits)
        whole = grid.integers(self.weight, scale, self.bits)
        with torch.device(self.weight.device):
            layer = self._empty(packing.tightest(whole.flatten(1), self.bits))
        layer.fill(whole, scale, self._input_scale(), self.bias)
        return layer.train(self.training)

    def _input_scale(self) -> Tensor:
        amax = self.input_amax
        if torch.compiler.is_compiling():  # no graph can raise by a value
            return grid.input_scale(amax, self.bits)
        # asked once per change: the answer waits for the device
        version = None if amax.is_inference() else amax._version
        if not self._seen or self._seen[0] is not amax or self._seen[1] != version:
            if not amax.is_meta and not self.calibrated:
                raise StageError(
                    f"a layer is quantised with input_amax={float(amax)}: calibrate it first, on "
                    "batches whose activations are finite and not all zero"
                )
            self._seen = (amax, version)
        return grid.input_scale(amax, self.bits)

    @abstractmethod
    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        """The float product of inputs and weight, with the bias."""

    @abstractmethod
    def _empty(self, pattern: str) -> Packed:
        """The packed layer of these shapes, not filled."""

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, bits={self.bits}, active={self.active}"


class FakeQuantizedLinear(FakeQuantized):
    """In the place of an `nn.Linear`: x (…, in) -> (…, out)."""

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight, self.bias)

    def _empty(self, pattern: str) -> Packed:
        return PackedLinear(
            self.in_features, self.out_features, self.bias is not None, self.bits, pattern
        )


class FakeQuantizedConv2d(FakeQuantized):
    """In the place of an `nn.Conv2d` with zero padding: x (B, C, H, W) -> (B, out, H', W')."""

    def __init__(self, layer: nn.Conv2d, bits: int) -> None:
        super().__init__(layer, bits)
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise ConfigError(
                f"a convolution with padding={layer.padding!r}, padding_mode="
                f"{layer.padding_mode!r} cannot be quantised; give the padding as numbers of zeros"
            )
        self.stride, self.padding = layer.stride, layer.padding
        self.dilation, self.groups = layer.dilation, layer.groups

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def _empty(self, pattern: str) -> Packed:
        return PackedConv2d(
            tuple(self.weight.shape),
            self.bias is not None,
            self.bits,
            pattern,
            self.stride,
            cast(tuple[int, int], self.padding),
            self.dilation,
            self.groups,
        )


def fake_quantized(
    layer: nn.Linear | nn.Conv2d, bits: int
) -> FakeQuantizedLinear | FakeQuantizedConv2d:
    """A layer for `layer`'s place, around its own parameters, not active yet. Also on the meta
    device. Raises ConfigError unless 2 <= bits <= 8, and for a layer of another kind."""
    if isinstance(layer, nn.Linear):
        return FakeQuantizedLinear(layer, bits)
    if isinstance(layer, nn.Conv2d):
        return FakeQuantizedConv2d(layer, bits)
    raise ConfigError(f"a {type(layer).__name__} cannot be quantised: only Linear and Conv2d can")
