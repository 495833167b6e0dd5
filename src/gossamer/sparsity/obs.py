"""SparseGPT's solver: prune a linear layer column by column and let what is left make up for it.

Frantar, Alistarh: SparseGPT: massive language models can be accurately pruned in one-shot, ICML
2023 (arXiv:2301.00774), algorithm 1, on the Optimal Brain Surgeon's update (Hassibi & Stork, 1993):
with H = 2/n XXᵀ, setting w_q to zero costs w_q² / (2 [H⁻¹]_qq) of mean squared output error, if
every weight w that is still free moves by δ = -w_q / [H⁻¹]_qq · [H⁻¹]_:q. Columns are taken from
left to right and freed of no more change once they are passed, so that one inverse serves all rows:
with UᵀU = H⁻¹ (U upper triangular), U_qq² and U_qq · U_q: are the entries needed of the inverse of
H restricted to columns q and after.

What differs from the official code: U comes from one Cholesky factor of H with rows and columns
reversed, instead of two and an inverse; unstructured, exactly the declared number of weights goes,
also on ties; damping that does not suffice is raised, with a warning.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from gossamer.errors import StageError
from gossamer.sparsity.patterns import Pattern, keep_top

log = logging.getLogger(__name__)
RAISES = 4  # times that damping is multiplied by ten before it is given up


@torch.no_grad()
def sparsegpt(
    weight: Tensor,
    hessian: Tensor,
    pattern: Pattern,
    sparsity: float,
    block: int = 128,
    damping: float = 0.01,
    keep: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(new weight, mask), both (out, in); the mask is True where a weight is kept.

    Args:
        weight: (out, in). Computed in float32, in float64 if it is that.
        hessian: (in, in) 2/n XXᵀ. Where its diagonal is 0 the input is always 0: such a column
            becomes 0.
        pattern: N:M, chosen when the first column of each group is reached, or unstructured, where
            each block of columns drops its share.
        sparsity: share of weights to drop, unstructured.
        block: columns whose effect on later columns is applied together (N:M: rounded up to whole
            groups). The mask of an unstructured layer depends on it, for it is chosen block by
            block; nothing else does.
        damping: times the mean of H's diagonal is added to the diagonal.
        keep: (out, in) False where a weight was pruned before: it stays pruned, and its removal is
            made up for like any other's. Such weights go first and count towards the sparsity.

    Raises StageError if H is not finite, or cannot be inverted with 10⁴ times the damping.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    w = weight.detach().to(dtype).T.contiguous()  # (in, out): a column of the weight is contiguous
    width, out = w.shape
    w[hessian.diagonal() == 0] = 0
    u = inverse_factor(hessian.to(dtype), damping)
    alive = torch.ones_like(w, dtype=torch.bool) if keep is None else keep.to(w.device).T
    mask = torch.ones_like(w, dtype=torch.bool)
    if pattern.m:
        block = -(-block // pattern.m) * pattern.m
    for start in range(0, width, block):
        end = min(start + block, width)
        own, inverse = w[start:end], u[start:end, start:end]  # views
        diagonal = inverse.diagonal()
        error = torch.zeros_like(own)
        if not pattern.m:
            dropped = round(sparsity * out * end) - round(sparsity * out * start)
            score = _saliency(own, diagonal, alive[start:end])
            mask[start:end] = keep_top(score, score.numel() - dropped) & alive[start:end]
        for column in range(end - start):
            here = start + column
            if pattern.m and here % pattern.m == 0:
                group = slice(column, column + pattern.m)
                score = _saliency(own[group], diagonal[group], alive[start:end][group])
                chosen = pattern.mask(score.T, None).T
                mask[start:end][group] = chosen & alive[start:end][group]
            error[column] = own[column] * ~mask[here] / diagonal[column]
            own[column:].addr_(inverse[column, column:], error[column], alpha=-1)
        w[end:] -= u[start:end, end:].T @ error
    w *= mask  # the updates left rounding errors where zeros are meant
    return w.T.to(weight.dtype).contiguous(), mask.T.contiguous()


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """The upper triangular U with UᵀU = (H + d·I)⁻¹, d = damping · mean(diag H); (in, in).

    With P the reversal of rows and columns and LLᵀ = P(H + d·I)P it is P L⁻¹ P. A 0 on H's diagonal
    counts as 1. Where H is not positive definite even so, the damping is raised tenfold, at most
    four times; each raise is logged as a warning. Raises StageError as `sparsegpt` does."""
    if not hessian.isfinite().all():
        raise StageError("a layer's calibration inputs are not finite: is the model?")
    for attempt in range(RAISES + 1 if damping else 1):
        wanted = damping * 10**attempt
        if attempt:
            log.warning("damping=%g: H is not positive definite; %g is tried", wanted / 10, wanted)
        reverse = hessian.flip(0, 1)
        diagonal = reverse.diagonal()
        diagonal[diagonal == 0] = 1
        diagonal.add_(wanted * diagonal.mean())
        lower, failed = torch.linalg.cholesky_ex(reverse)
        del reverse, diagonal
        if not int(failed):
            _invert(lower)
            return lower.flip(0, 1)
    raise StageError(
        f"damping={damping:g}: a layer's Hessian is not positive definite with {wanted:g}; "
        "set a larger damping, or calibrate on more samples"
    )


def _invert(lower: Tensor, size: int = 256) -> None:
    """Put the inverse of a lower triangular matrix in its place, `size` rows at a time: a third of
    the multiplications of solving for it, without a second matrix of that size."""
    for start in range(0, len(lower), size):
        rows = lower[start : start + size]
        corner = rows[:, start : start + size]
        identity = torch.eye(len(corner), dtype=lower.dtype, device=lower.device)
        corner.copy_(torch.linalg.solve_triangular(corner, identity, upper=False))
        before = torch.empty_like(rows[:, :start])
        for left in range(0, start, size):
            columns = slice(left, left + size)
            before[:, columns] = rows[:, left:start] @ lower[left:start, columns]
        rows[:, :start] = -corner @ before


def _saliency(weight: Tensor, diagonal: Tensor, alive: Tensor) -> Tensor:
    """W² / [H⁻¹]_qq, rows being columns of the layer; what was pruned before goes first."""
    return (weight / diagonal[:, None]).square().where(alive, -1.0)
