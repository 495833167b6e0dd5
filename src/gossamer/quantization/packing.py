"""Integers in as few bytes as their pattern takes.

    dense           every integer
    2:4             of every four, two integers and where they stood (2 bits each)
    pairwise:4:8    of every four aligned pairs, two pairs and where they stood (2 bits each pair)

An integer of up to 4 bits takes 4, two to a byte; a wider one a byte. So 2:4 in INT8 and
pairwise:4:8 in INT4 take 20 bits a group, as sparse tensor cores read them. Fewer non-zeros than
two fill up with zeros. Everything is flat, first things in low bits; only the last byte is padded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RUNS = {"2:4": 1, "pairwise:4:8": 2}  # of four runs of so many neighbours, two are kept
PATTERNS = ("dense", *RUNS)
_KEPT, _OF, _POSITION_BITS = 2, 4, 2


def width(bits: int) -> int:
    """The bits that an integer of a `bits`-bit grid is stored in."""
    return 4 if bits <= 4 else 8


def holds(integers: Tensor, pattern: str) -> bool:
    """Can integers (out, in) be stored in this pattern? ValueError for an unknown one."""
    if pattern == "dense":
        return True
    run = _run(pattern)
    if integers.shape[1] % (_OF * run):
        return False
    alive = (integers.reshape(-1, _OF, run) != 0).any(-1).sum(-1)
    return bool((alive <= _KEPT).all())


def bits_stored(shape: tuple[int, ...], bits: int, pattern: str) -> int:
    """The bits that integers (out, in) take, scales not counted, before the last byte is padded."""
    count = math.prod(shape)
    if pattern == "dense":
        return count * width(bits)
    groups = count // (_OF * _run(pattern))
    return groups * _KEPT * (_run(pattern) * width(bits) + _POSITION_BITS)


def tightest(integers: Tensor, bits: int) -> str:
    """The pattern which integers (out, in) hold, and in which they take the fewest bits."""
    held = [pattern for pattern in PATTERNS if holds(integers, pattern)]
    return min(held, key=lambda pattern: bits_stored(tuple(integers.shape), bits, pattern))


def pack(integers: Tensor, bits: int, pattern: str) -> dict[str, Tensor]:
    """{"values": uint8} of int8 integers (out, in), and "positions" where the pattern needs them.

    Raises ValueError where the pattern does not hold or an integer is too large for `bits`."""
    if not holds(integers, pattern):
        raise ValueError(f"pattern={pattern}: integers {tuple(integers.shape)} do not hold it")
    if int(integers.to(torch.int16).abs().max()) >= 2 ** (bits - 1):
        raise ValueError(f"bits={bits}: too few for {int(integers.to(torch.int16).abs().max())}")
    if pattern == "dense":
        return {"values": _joined(integers.flatten().view(torch.uint8), width(bits))}
    runs = integers.reshape(-1, _OF, _run(pattern))
    alive = (runs != 0).any(-1)  # (groups, 4)
    # the runs that are not zero, then the first ones that are; in their own order again
    kept = (~alive).to(torch.uint8).argsort(dim=1, stable=True)[:, :_KEPT].sort(dim=1).values
    values = runs.gather(1, kept[..., None].expand(-1, -1, runs.shape[2]))
    return {
        "values": _joined(values.flatten().view(torch.uint8), width(bits)),
        "positions": _joined(kept.flatten().to(torch.uint8), _POSITION_BITS),
    }


def unpack(
    values: Tensor, positions: Tensor | None, shape: tuple[int, int], bits: int, pattern: str
) -> Tensor:
    """The int8 integers of this shape (out, in) that `pack` stored. Also on the meta device."""
    count = math.prod(shape)
    if pattern == "dense":
        return _signed(_split(values, width(bits), count), bits).reshape(shape)
    assert positions is not None
    run = _run(pattern)
    groups = count // (_OF * run)
    kept = _split(positions, _POSITION_BITS, groups * _KEPT).to(torch.int64)
    runs = _signed(_split(values, width(bits), groups * _KEPT * run), bits)
    empty = torch.zeros(groups, _OF, run, dtype=torch.int8, device=values.device)
    places = kept.reshape(groups, _KEPT, 1).expand(-1, -1, run)
    return empty.scatter_(1, places, runs.reshape(groups, _KEPT, run)).reshape(shape)


def stored_shapes(shape: tuple[int, int], bits: int, pattern: str) -> dict[str, int]:
    """The bytes of each tensor that `pack` makes of integers of this shape (out, in)."""
    count = math.prod(shape)
    if pattern == "dense":
        return {"values": _bytes(count, width(bits))}
    kept = count // (_OF * _run(pattern)) * _KEPT
    return {
        "values": _bytes(kept * _run(pattern), width(bits)),
        "positions": _bytes(kept, _POSITION_BITS),
    }


def _run(pattern: str) -> int:
    if pattern not in RUNS:
        raise ValueError(f"pattern={pattern!r}: integers are packed {', '.join(PATTERNS)}")
    return RUNS[pattern]


def _bytes(count: int, each: int) -> int:
    return -(-count * each // 8)


def _joined(items: Tensor, each: int) -> Tensor:
    """Flat uint8 items, of which the low `each` bits count, in as few bytes as they fit in."""
    many = 8 // each
    if many == 1:
        return items.clone()
    filled = items.new_zeros(_bytes(len(items), each) * many)
    filled[: len(items)] = items & (2**each - 1)
    shifts = torch.arange(0, 8, each, device=items.device, dtype=torch.uint8)
    return (filled.reshape(-1, many) << shifts).sum(1, dtype=torch.uint8)


def _split(packed: Tensor, each: int, count: int) -> Tensor:
    if each == 8:
        return packed
    shifts = torch.arange(0, 8, each, device=packed.device, dtype=torch.uint8)
    return ((packed[:, None] >> shifts) & (2**each - 1)).flatten()[:count]


def _signed(items: Tensor, bits: int) -> Tensor:
    """Two's complement of the stored width as int8."""
    if width(bits) == 8:
        return items.view(torch.int8)
    return (items ^ 8).to(torch.int8) - 8
