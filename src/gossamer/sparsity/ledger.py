"""A ledger row for one linear operation, read off its weight: what is there, never what was
planned."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.contract import Fact


def fact(
    name: str,
    weight: Tensor,
    pattern: str = "dense",
    *,
    target: float | None = None,
    skipped: str | None = None,
) -> Fact:
    """The Fact of a linear operation with this weight (out, in), kept in a dense file.

    `target` is the declared density; `skipped` says why a method left the operation alone. Its
    `macs` are those of one application to one vector (a token): one for each non-zero weight. Its
    `bits` are those of the dtype for every weight, since a dense file stores the zeros too."""
    nonzero = int(torch.count_nonzero(weight.detach()))
    return Fact(
        name=name,
        shape=tuple(weight.shape),
        pattern=pattern,
        target=target,
        density=nonzero / weight.numel(),
        bits=8.0 * weight.element_size(),
        macs=nonzero,
        changed=skipped is None,
        skipped=skipped,
    )
