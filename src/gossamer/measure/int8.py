"""INT8 products on tensor cores: torch's int8 matmul, with 2:4 where cuSPARSELt is there.

    y = (clamp(round(x / s_x), -128, 127) W_q^T) (s_x s_w) + b,  sums in int32

The product is what ONNX Runtime computes on a CPU: exact sums of integers, scaled once; so it
differs from the packed layer, which multiplies floats, in the last digits of a sum. The dense int8
matmul also runs on a CPU, where it is tested. NEVER RUN ON A GPU so far: neither its time there nor
the 2:4 path below has been seen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gossamer.models.surgery import replace_module
from gossamer.quantization.packed import Packed, PackedLinear

BITS = 8
LEAST = 17  # rows that the CUDA kernel needs: more than 16
FEATURES = 8  # of which inputs and outputs are a multiple
SPARSE_ROWS = 16  # the dense operand of the 2:4 product is padded to a multiple of it
SPARSE = (32, 32)  # of which a 2:4 weight (out, in) is a multiple: cuSPARSELt's int8
LOW, HIGH = -128, 127


class Int8Linear(nn.Module):
    """In the place of a packed linear layer of 8 bits: x (…, in) -> (…, out), in x's dtype.

    Args:
        sparse: store the weight compressed for 2:4 tensor cores (CUDA, cuSPARSELt)
    """

    weight: Tensor  # (out, in) int8, or what cuSPARSELt makes of it
    input_scale: Tensor  # () float32
    scale: Tensor  # (out,) float32, of a step of the sums
    bias: Tensor | None  # (out,) float32

    def __init__(self, layer: PackedLinear, sparse: bool = False) -> None:
        super().__init__()
        self.out_features, self.sparse = layer.out_features, sparse
        weight = layer.integers()  # (out, in)
        self.register_buffer("weight", torch._cslt_compress(weight) if sparse else weight)
        self.register_buffer("input_scale", layer.input_scale.clone())
        self.register_buffer("scale", layer.input_scale * layer.scale)  # (out,)
        bias = None if layer.bias is None else layer.bias.detach().float()
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        whole = (x.float() / self.input_scale).round_().clamp_(LOW, HIGH).to(torch.int8)
        sums = self._product(whole.flatten(0, -2))  # (rows, out) int32
        y = sums.float() * self.scale
        if self.bias is not None:
            y += self.bias
        return y.to(x.dtype).unflatten(0, x.shape[:-1])

    def _product(self, x: Tensor) -> Tensor:
        rows = len(x)
        if self.sparse:
            x = _padded(x, -(-rows // SPARSE_ROWS) * SPARSE_ROWS)
            y = torch._cslt_sparse_mm(
                self.weight, x.t(), out_dtype=torch.int32, transpose_result=True
            )
        else:
            y = torch._int_mm(_padded(x, max(rows, LEAST)), self.weight.t())
        return y[:rows]


def ineligible(layer: nn.Module) -> str | None:
    """Why a layer has no int8 product here; None: it has one."""
    if not isinstance(layer, PackedLinear):
        return f"a {type(layer).__name__}, no packed linear layer"
    if layer.bits != BITS:
        return f"{layer.bits} bits: simulated, no kernel multiplies them"
    if layer.in_features % FEATURES or layer.out_features % FEATURES:
        return f"{layer.out_features}x{layer.in_features} is no multiple of {FEATURES}"
    return None


def densely(layer: PackedLinear) -> str | None:
    """Why the product of an eligible layer does not skip zeros; None: 2:4 kernels take it."""
    if layer.pattern != "2:4":
        return f"pattern {layer.pattern}"
    if layer.out_features % SPARSE[0] or layer.in_features % SPARSE[1]:
        return f"{layer.out_features}x{layer.in_features} is no multiple of {SPARSE[0]}x{SPARSE[1]}"
    if layer.values.device.type != "cuda" or not torch.backends.cusparselt.is_available():
        return "cuSPARSELt is not there"
    return None


def convert(model: nn.Module) -> tuple[int, dict[str, str]]:
    """Put int8 products in the place of the packed layers that have one, in place, on the model's
    device. Returns their number, and {path: what is not as fast as it could be, and why}."""
    count, told = 0, {}
    for path, layer in list(model.named_modules()):
        if not isinstance(layer, Packed):
            continue
        if why := ineligible(layer):
            told[path] = f"left in floats: {why}"
            continue
        assert isinstance(layer, PackedLinear)
        dense = densely(layer)
        if dense and layer.pattern == "2:4":
            told[path] = f"int8, its zeros multiplied: {dense}"
        replace_module(model, path, Int8Linear(layer, sparse=dense is None))
        count += 1
    return count, told


def _padded(x: Tensor, rows: int) -> Tensor:
    return x if len(x) == rows else torch.cat([x, x.new_zeros(rows - len(x), x.shape[1])])
