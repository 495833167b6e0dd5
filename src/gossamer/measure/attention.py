"""Attention's products in the compute ledger: of the facts that have `dense_macs`, per sample.

They are closed forms, what chooses the keys included, and theory: a mask over a dense product saves
nothing that is executed, and `macs_effective` stays what was counted. Nothing here is a weight:
such facts are in no figure of storage, whatever module they are named after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gossamer.contract import Fact


def products(facts: Iterable[Fact]) -> list[Fact]:
    """The facts that are of attention's products."""
    return [fact for fact in facts if fact.dense_macs is not None]


def operations(facts: Iterable[Fact]) -> list[Fact]:
    """All others: operations with weights."""
    return [fact for fact in facts if fact.dense_macs is None]


def attention(facts: Iterable[Fact]) -> dict[str, Any]:
    """The record's fields of attention's products, summed over the blocks; all None without any.

    The densities are shares of all maps together (heads * n * n elements each); of tiles it is None
    unless every block knows its own."""
    rows = products(facts)
    if not rows:
        return dict.fromkeys(
            (
                "attention_macs",
                "attention_macs_dense",
                "attention_density",
                "attention_block_density",
            )
        )
    return {
        "attention_macs": sum(fact.macs for fact in rows),
        "attention_macs_dense": sum(fact.dense_macs or 0 for fact in rows),
        "attention_density": _weighted(rows, [fact.density for fact in rows]),
        "attention_block_density": _weighted(rows, [fact.block_density for fact in rows]),
    }


def _weighted(rows: list[Fact], shares: list[float | None]) -> float | None:
    sizes = [math.prod(fact.shape) for fact in rows]
    if any(share is None for share in shares) or not sum(sizes):
        return None
    return sum(n * (share or 0.0) for n, share in zip(sizes, shares, strict=True)) / sum(sizes)
