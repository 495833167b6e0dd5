"""Multiply-accumulates of attention's products (scores and values), in closed form, of one sample.

Projections are not in it; softmax, selection and the traffic of indices are not counted. Dense, a
layer takes 2 n² d; a DeiT-S at 224 pixels (n = 197, d = 384) 357.7 M in its twelve.
"""

from __future__ import annotations


def dense(tokens: int, width: int) -> int:
    """2 n² d: QKᵀ and PV."""
    return 2 * tokens * tokens * width


def budgeted(tokens: int, width: int, budget: int, prefix: int) -> int:
    """2 ((n - p) B + p n) d: of the patches' queries B keys each, the first p rows dense."""
    return 2 * ((tokens - prefix) * min(budget, tokens) + prefix * tokens) * width


def predictor(
    tokens: int, width: int, heads: int, *, channels: int, basis: int, kept: int, density: float
) -> int:
    """What it takes to predict the map (Sparsifiner): reducing the channels of queries and keys to
    `channels` of d / H, reducing the keys to `basis` of n, the low-rank scores, and a sparse
    product of the `kept` coefficients of each query and a basis of which `density` is not zero."""
    reduce_channels = 2 * tokens * width * channels
    reduce_keys = heads * channels * tokens * basis
    scores = heads * tokens * channels * basis
    up = round(heads * tokens * kept * density * tokens)
    return reduce_channels + reduce_keys + scores + up


def low_rank(tokens: int, width: int, rank: int) -> int:
    """4 n r d: keys and values reduced to r of n, and the products with them (Linformer)."""
    return 4 * tokens * rank * width
