"""A ledger row for one packed operation, read off its integers and the bytes they take."""

from __future__ import annotations

import torch

from gossamer.contract import Fact
from gossamer.quantization.packed import Packed


def packed_fact(name: str, layer: Packed, *, target: float | None = None) -> Fact:
    """The Fact of a packed layer: shape (out, …), its pattern, the density that is left after
    quantisation, and the bits that a weight really takes, scales and positions included.

    `target` is the density that was declared: quantisation makes zeros of its own, so that it is
    met from above only. Its `macs` are those of one application to one vector (a token, a patch):
    one for each integer that is not zero. Both operands are integers of the layer's width."""
    whole = layer.integers()
    nonzero = int(torch.count_nonzero(whole))
    stored = [t for path, t in layer.state_dict().items() if path != "bias"]
    taken = 8 * sum(tensor.numel() * tensor.element_size() for tensor in stored)
    return Fact(
        name=name,
        shape=tuple(whole.shape),
        pattern=layer.pattern,
        target=target,
        density=nonzero / whole.numel(),
        bits=taken / whole.numel(),
        operands=(layer.bits, layer.bits),
        macs=nonzero,
    )
