"""2:4 weights on sparse tensor cores: torch's semi-structured kernels (cuSPARSELt, or CUTLASS).

A finished model has dense weights with exact zeros. On CUDA, what holds 2:4 and has an eligible
shape is swapped for a compressed tensor, whose products skip the zeros; the rest stays dense and is
named with the reason. On a CPU torch has no kernel that skips them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gossamer.contract import Fact
from gossamer.measure.attention import operations

PATTERN = "2:4"
NO_KERNEL = "2:4: no CPU kernel skips the zeros; its products are dense"
TOKENS = 8  # rows of an input are padded to a multiple of it


def sparse_layers(facts: Iterable[Fact]) -> list[str]:
    """The paths of the operations whose ledger row says 2:4."""
    return list(dict.fromkeys(fact.name for fact in operations(facts) if fact.pattern == PATTERN))


def ineligible(weight: Tensor, dtype: torch.dtype) -> str | None:
    """Why a weight (out, in) cannot be compressed in this dtype; None: it can. The shapes are what
    torch's own table says of the kernels in use."""
    from torch.sparse import SparseSemiStructuredTensorCUSPARSELT as Cusparselt
    from torch.sparse import SparseSemiStructuredTensorCUTLASS as Cutlass
    from torch.sparse.semi_structured import SparseSemiStructuredTensor as Chosen

    table = (Cutlass if Chosen._FORCE_CUTLASS else Cusparselt)._DTYPE_SHAPE_CONSTRAINTS
    if dtype not in table:
        return f"no sparse kernel for {str(dtype).removeprefix('torch.')}"
    if weight.ndim != 2:
        return f"{weight.ndim} dimensions, the kernels need 2"
    rows, columns = table[dtype].sparse_min_rows, table[dtype].sparse_min_cols
    out, width = weight.shape
    if out % rows or width % columns:
        return f"{out}x{width} is no multiple of {rows}x{columns}"
    groups = weight.detach().reshape(out, -1, 4)
    if bool((groups.count_nonzero(dim=2) > 2).any()):
        return "its weights do not hold 2:4"
    return None


def compress(model: nn.Module, layers: Iterable[str]) -> dict[str, str]:
    """Put compressed weights into the linear layers at these paths, in place, on CUDA; returns
    {path: why it stayed dense}. The model's outputs stay the same up to rounding; it can no longer
    be saved or trained."""
    dense = {}
    for path in layers:
        layer = model.get_submodule(path)
        if type(layer) is not nn.Linear:
            dense[path] = f"a {type(layer).__name__}, no plain linear layer"
        elif why := ineligible(layer.weight, layer.weight.dtype):
            dense[path] = why
        else:
            weight = torch.sparse.to_sparse_semi_structured(layer.weight.detach().contiguous())
            layer.weight = nn.Parameter(weight, requires_grad=False)
    return dense
