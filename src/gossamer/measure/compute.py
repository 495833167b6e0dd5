"""The compute ledger: multiply-accumulates, counted by torch's FlopCounterMode.

Attention products count like any other product: fused attention is switched to its plain form, so
that QKᵀ and PV are matrix products the counter sees. A Hugging Face BERT layer with n tokens and
width d then takes exactly n(12d² + 2nd). One multiply-accumulate is two of the counter's FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry, shape_wrapper

from gossamer.contract import Fact
from gossamer.measure import formats
from gossamer.measure.attention import attention
from gossamer.quantization.packed import Packed

COUNTED_BY = f"torch.utils.flop_counter.FlopCounterMode (torch {torch.__version__})"
aten = torch.ops.aten


def _vector_flops(*shapes: Any, out_shape: Any = None, **_: Any) -> int:
    """A matrix or vector times a vector: a product for each element of the matrix."""
    return 2 * _elements(shapes[-2])


# FlopCounterMode knows no products with a vector; they would silently cost nothing.
VECTOR_PRODUCTS = {aten.mv: _vector_flops, aten.dot: _vector_flops, aten.addmv: _vector_flops}
FORMULAS = {**flop_registry, **{op: shape_wrapper(f) for op, f in VECTOR_PRODUCTS.items()}}
WITH_BIAS_FIRST = frozenset({"addmm", "baddbmm", "addmv"})


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one forward pass over a batch."""

    total: int
    modules: dict[str, int]  # module path -> of the module and everything below it


def macs(model: nn.Module, inputs: Mapping[str, Any]) -> Macs:
    """Counted MACs of `model(**inputs)` in eval mode, on the device that the model is on.

    The meta device will do: nothing is computed there, and inputs are moved to it. There, a
    question about values ("is every token attended to?") is answered with yes. Raises RuntimeError
    where the model asks for other values of a meta tensor."""
    with _plain_products(model), _AllTrue(), _counter() as counter:
        model(**_moved(model, inputs))
    counts = {path: sum(ops.values()) // 2 for path, ops in counter.get_flop_counts().items()}
    total = counts.pop("Global", 0)
    root = f"{type(model).__name__}."
    modules = {path.removeprefix(root): n for path, n in counts.items() if path.startswith(root)}
    return Macs(total, modules)


def macs_nonzero(model: nn.Module, inputs: Mapping[str, Any]) -> int:
    """MACs of `model(**inputs)` whose weight is not zero: a theoretical figure, executed by nobody.

    Each product with a parameter or buffer counts by that tensor's share of non-zeros; products of
    activations (attention) count in full. Needs weights: ValueError on the meta device."""
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("macs_nonzero needs the weights' values; the model is on the meta device")
    with _plain_products(model), _Zeros(model) as zeros, _counter() as counter:
        model(**_moved(model, inputs))
    return counter.get_total_flops() // 2 - zeros.macs


def compute(
    dense: nn.Module,
    model: nn.Module,
    inputs: Mapping[str, Any],
    workload: str,
    facts: Iterable[Fact] = (),
) -> dict[str, Any]:
    """The record's `compute`: MACs per sample (one row of `inputs`) of the twin and of the model;
    `workload` is the inputs' name, `facts` the ledger.

    `macs_effective` is what the finished model is counted to execute here: removed heads and
    neurons are gone from it, zeros inside a dense product are not. Attention's products are also
    told by closed form, of what methods chose to attend to."""
    rows, ledger = _rows(inputs), list(facts)
    before, after = macs(dense, inputs), macs(model, inputs)
    return {
        "macs_dense": before.total // rows,
        "macs_effective": after.total // rows,
        "macs_nonzero": macs_nonzero(model, inputs) // rows,
        "counted_by": COUNTED_BY,
        "workload": workload,
        "modelled": None,
        "bit_operations": _each(formats.bit_operations(after.total, after.modules, ledger), rows),
        "bit_operations_dense": _each(formats.dense_bit_operations(before.total, ledger), rows),
        **attention(ledger),
    }


def _each(count: int | None, rows: int) -> int | None:
    return None if count is None else count // rows


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=VECTOR_PRODUCTS)


@contextmanager
def _plain_products(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, and neither fused attention nor fused encoder layers."""
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        try:
            model.eval()
            torch.backends.mha.set_fastpath_enabled(False)
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for module, mode in modes.items():
                module.training = mode


class _AllTrue(TorchDispatchMode):
    """Answers "is this so?" on a meta tensor with yes: masks are full, as in a batch without
    padding (a mask changes no count)."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = args[0] if func is aten._local_scalar_dense.default else None
        if asked is not None and asked.is_meta and asked.dtype is torch.bool:
            return True
        return func(*args, **(kwargs or {}))


class _Zeros(TorchDispatchMode):
    """Adds up the MACs whose weight, a parameter or buffer of the model or what a packed layer's
    integers stand for, is exactly zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        packed = [module.weight for module in model.modules() if isinstance(module, Packed)]
        stored = [*model.parameters(), *model.buffers(), *packed]
        self.weights = {t.untyped_storage().data_ptr() for t in stored if t.numel()}
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name, formula = func.overloadpacket.__name__, FORMULAS.get(func.overloadpacket)
        if formula is not None:
            factors = args[1:3] if name in WITH_BIAS_FIRST else args[:2]
            weight = next((t for t in factors if self._is_weight(t)), None)
            if weight is not None:  # each of its elements takes part in as many products
                macs = formula(*args, **(kwargs or {}), out_val=out) // 2
                self.macs += macs * int((weight == 0).sum()) // weight.numel()
        return out

    def _is_weight(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.weights


def _moved(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    place = next(iter(model.parameters())).device
    return {k: v.to(place) if isinstance(v, Tensor) else v for k, v in inputs.items()}


def _rows(inputs: Mapping[str, Any]) -> int:
    return next(len(value) for value in inputs.values() if isinstance(value, Tensor))


def _elements(shape: Any) -> int:
    count = 1
    for length in shape:
        count *= int(length)
    return count
