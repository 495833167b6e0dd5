"""Ω, the fixed support of the sparse residual S2: which N entries of a matrix may be tuned.

The paper takes it from a decomposition of the pre-trained W into low rank + sparse, eq. (2),

    min ½‖W − U'V' − S'‖_F²   s.t.  rank(U'V') ≤ r',  card(S') ≤ N,

by greedy bilateral smoothing (GreBsmo; Zhou and Tao, 2013). Only the support of S' is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from gossamer.errors import ConfigError, StageError
from gossamer.sparsity.patterns import keep_top
from gossamer.sparsity.scores import magnitude

SupportRule = Literal["grebsmo", "magnitude", "random"]


@dataclass(frozen=True)
class Decomposition:
    """W ≈ U V + S with UᵀU = I; `errors` holds ‖W − U V − S‖_F after each inner step."""

    U: Tensor  # (out, k), orthonormal columns
    V: Tensor  # (k, in)
    S: Tensor  # (out, in), at most N non-zeros
    errors: tuple[float, ...]


def find_support(
    rule: SupportRule, weight: Tensor, entries: int, rank: int, generator: Generator
) -> Tensor:
    """The support Ω of one weight (out, in): exactly `entries` distinct flat indices, int64,
    ascending.

    "grebsmo": the largest |W − U'V'| of eq. (2) with rank(U'V') ≤ `rank`; "magnitude": the largest
    |W|; "random": uniform. Ties go to the lower index, so it is exact for a W of low rank, too.
    Raises StageError if the weight is not finite."""
    weight = weight.detach()
    if not weight.isfinite().all():
        raise StageError(
            "support: a pre-trained weight is not finite; choose other starting weights"
        )
    match rule:
        case "grebsmo":
            parts = grebsmo(weight, rank, entries, generator)
            score = (weight.to(parts.U.dtype) - parts.U @ parts.V).abs()
        case "magnitude":
            score = magnitude(weight)
        case "random":
            order = torch.randperm(weight.numel(), generator=generator, device=generator.device)
            return order[:entries].sort().values.to(weight.device)
        case _:
            raise ConfigError(
                f"compression.dsee.support={rule!r}: choose grebsmo, magnitude or random"
            )
    return keep_top(score.flatten(), entries).nonzero().flatten()


@torch.no_grad()
def grebsmo(
    weight: Tensor,
    rank: int,
    entries: int,
    generator: Generator,
    *,
    increment: int = 1,
    inner: int = 10,
    tolerance: float = 1e-3,
) -> Decomposition:
    """Solve eq. (2) for one `weight` (out, in) greedily, in float32 or the weight's float64.

    The rank grows by `increment` up to `rank`; at each rank, at most `inner` steps of exact
    alternating minimisation follow, fewer once the error falls by less than `tolerance` of itself:

        U ← Q of QR((W − S) Vᵀ);   V ← Uᵀ (W − S);   S ← the `entries` largest of W − U V.

    Each is the minimiser with the other two fixed (U up to a rotation that V undoes), hence the
    error never rises, also when the rank grows. The new rows of V are random mixtures of the rows
    of the error. The whole stops early when W is explained to rounding."""
    W = weight.detach().to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
    out, width = W.shape
    rounding = 1e-6 * float(W.norm())
    U, V, S = W.new_zeros(out, 0), W.new_zeros(0, width), torch.zeros_like(W)
    errors: list[float] = []
    while V.shape[0] < rank:
        missing = W - U @ V - S  # (out, in)
        add = min(increment, rank - V.shape[0])
        mix = torch.randn(add, out, generator=generator, device=generator.device, dtype=W.dtype)
        V = torch.cat([V, mix.to(W.device) @ missing])
        for step in range(inner):
            U = torch.linalg.qr((W - S) @ V.T).Q  # (out, k)
            V = U.T @ (W - S)  # (k, in)
            rest = W - U @ V
            S = _largest(rest, entries)
            errors.append(float((rest - S).norm()))
            if step and errors[-2] - errors[-1] <= tolerance * errors[-2]:
                break
        if errors[-1] <= rounding:
            break
    return Decomposition(U, V, S, tuple(errors))


def _largest(matrix: Tensor, entries: int) -> Tensor:
    """`matrix` with all but its `entries` largest magnitudes set to zero."""
    flat = matrix.flatten()
    index = flat.abs().topk(entries).indices
    return torch.zeros_like(flat).index_put_((index,), flat[index]).reshape(matrix.shape)
