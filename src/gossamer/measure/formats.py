"""Sizes and operations by the formats' rules, as the papers on quantised N:M weights count them.

A kept weight takes its bits, and the bits of its place in its group; so a group of four in 2:4 and
INT8 takes 2 (8 + 2) = 20 bits, and one of eight in pairwise 4:8 and INT4 takes 4 * 4 + 2 * 2 = 20,
against 128 and 256 in FP32. A quantised operation in no N:M pattern takes its bits for each weight.
All that is left is FP32. Scales are not counted, nor bytes that pad: what a file really takes is
`checkpoint_bytes`, and the two are told side by side.

A bit operation is one bit of a weight times one of an input: a multiply-accumulate takes the bits
of both, times the share of weights that the pattern keeps, n of m (a kept zero is computed with).
What is not quantised counts as 32 by 32 bits, and attention products, which have no weight, do too.
Neither is time: no runtime is claimed to gain as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from gossamer.contract import Fact
from gossamer.measure.attention import operations
from gossamer.sparsity.patterns import n_of_m

FLOAT = 32  # bits of what is not quantised


def weight_bits(pattern: str, bits: int) -> float:
    """Bits per weight in a pattern's format where each value has `bits`: 5.0 for 2:4 in INT8. A
    pattern that is not N:M saves nothing."""
    if not (found := n_of_m(pattern)):
        return float(bits)
    places = math.ceil(math.log2(found.m // found.run)) * (found.n // found.run)
    return (found.n * bits + places) / found.m


def storage_bytes(parameters: int, facts: Iterable[Fact]) -> int | None:
    """Bytes of a model of so many parameters by the rule; None if `facts` name nothing that is
    quantised or in N:M."""
    rows = list(_formatted(facts))
    if not rows:
        return None
    bits, left = 0.0, parameters
    for fact in rows:
        count = math.prod(fact.shape)
        bits += count * weight_bits(fact.pattern, (fact.operands or (FLOAT,))[0])
        left -= count
    return math.ceil((bits + FLOAT * left) / 8)


def dense_bytes(parameters: int, facts: Iterable[Fact]) -> int | None:
    """The same of the dense model: all of it FP32. None where `storage_bytes` is."""
    return parameters * FLOAT // 8 if any(_formatted(facts)) else None


def bit_operations(total: int, modules: Mapping[str, int], facts: Iterable[Fact]) -> int | None:
    """Bit operations of a pass of `total` multiply-accumulates, `modules` of them in each module by
    path; None if `facts` name nothing that is quantised or in N:M."""
    rows = list(_formatted(facts))
    if not rows:
        return None
    done, left = 0, total
    for fact in rows:
        macs = modules.get(fact.name, 0)
        weight, other = fact.operands or (FLOAT, FLOAT)
        found = n_of_m(fact.pattern)
        kept, group = (found.n, found.m) if found else (1, 1)
        done += macs * weight * other * kept // group
        left -= macs
    return done + left * FLOAT * FLOAT


def dense_bit_operations(total: int, facts: Iterable[Fact]) -> int | None:
    """The same of the dense model; None where `bit_operations` is."""
    return total * FLOAT * FLOAT if any(_formatted(facts)) else None


def _formatted(facts: Iterable[Fact]) -> Iterator[Fact]:
    """The operations that a format makes smaller."""
    changed = (fact for fact in operations(facts) if fact.changed and not fact.skipped)
    return (fact for fact in changed if fact.operands or n_of_m(fact.pattern))
