"""What takes turns in benchmarks/attention.py: ways to make a map, and ways to attend by it.

The map is that of Sparsifiner's predictor (compression/sparsifiner/predictor.py) with random
weights: times do not depend on the values. The product of the kept coefficients and the basis is
done sparsely, s rows of the basis added for each query: n² s multiply-accumulates for each head
where the dense product, which the module itself does, takes n² n_down, and n_down = n / 6 makes
that n³ / 6. Zeros of the basis (two thirds of it, as drawn) are multiplied all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad, scaled_dot_product_attention

from gossamer.compression.sparsifiner.predictor import LowRank
from gossamer.sparsity.attention import TILE, spread, top_keys, top_tiles
from gossamer.sparsity.attention_flex import flex_tiles
from gossamer.sparsity.attention_paths import ATTEND

REDUCE_N, REDUCE_C, COEFFICIENTS, THRESHOLD = 6, 2, 8, 0.02  # the paper's
ROWS = 1 << 24  # scores held at once while a map is made
GATHERED = 20e9  # bytes: a way that gathers more in a call is left out


@dataclass(frozen=True)
class Shape:
    """Of one point: prefix 1 is a class token, in `tokens`."""

    tokens: int
    prefix: int
    heads: int
    batch: int
    width: int = 64  # of a head


@dataclass(frozen=True)
class Given:
    """q, k, v (B, H, n, d_h), the predictor, and what is a constant of a finished model: the
    thresholded basis (n_down, n), and its sums over the keys of each tile (t, n_down)."""

    q: Tensor
    k: Tensor
    v: Tensor
    predictor: LowRank
    prefix: int
    basis: Tensor
    tiled_basis: Tensor


def given(shape: Shape, budget: int, device: str, dtype: torch.dtype) -> Given:
    predictor = LowRank(
        budget,
        shape.prefix,
        tokens=shape.tokens,
        head_dim=shape.width,
        heads=shape.heads,
        basis=shape.tokens // REDUCE_N,
        channels=shape.width // REDUCE_C,
        coefficients=COEFFICIENTS,
        threshold=THRESHOLD,
        scale="heads",
        tile=1,
    )
    generator = torch.Generator().manual_seed(0)
    predictor.to_empty(device="cpu").draw(generator)
    size = (3, shape.batch, shape.heads, shape.tokens, shape.width)
    q, k, v = torch.randn(size, generator=generator).to(device, dtype).unbind(0)
    predictor = predictor.to(device, dtype).eval().requires_grad_(False)
    basis = predictor.basis()
    tiled = pad(basis, (0, 0, 0, -shape.tokens % TILE)).unflatten(0, (-1, TILE)).sum(1)
    return Given(q, k, v, predictor, shape.prefix, basis.T.contiguous(), tiled.float())


def coefficients(x: Given) -> tuple[Tensor, Tensor]:
    """The low-rank scores' softmax, of each query the s largest: values and places
    (B, H, n - prefix, s)."""
    values, places = x.predictor.coefficients_of(x.q, x.k, None).topk(COEFFICIENTS, dim=-1)
    return values, places


def map_of_keys(x: Given, budget: int) -> Tensor:
    """(B, H, n - prefix, n) bool: `budget` keys of each query, a chunk of queries at a time."""
    values, places = (each.flatten(0, 2) for each in coefficients(x))
    tokens = x.basis.shape[1]
    kept = torch.empty(len(values), tokens, dtype=torch.bool, device=values.device)
    size = max(1, ROWS // tokens)
    for begin in range(0, len(values), size):
        of = slice(begin, begin + size)
        scores = embedding_bag(places[of], x.basis, per_sample_weights=values[of], mode="sum")
        kept[of] = top_keys(scores, budget)
    return kept.view(*x.q.shape[:2], -1, tokens)


def map_by_module(x: Given) -> Tensor:
    """The same as the module makes it: by a dense product, all queries at once."""
    made: Tensor = x.predictor(x.q, x.k)
    return made


def map_of_tiles(x: Given, budget: int) -> Tensor:
    """(B, H, t, t) bool: what `top_tiles` keeps, from sums of the factors. The sum of scores over a
    tile is the product of the coefficients' sum over its queries and the basis' over its keys, so
    no score of a single pair is ever computed."""
    values, places = coefficients(x)
    wide, tokens = x.basis.shape
    values, places = (  # (B, H, t, TILE * s); what sticks out adds 0
        pad(each, (0, 0, x.prefix, -tokens % TILE)).unflatten(-2, (-1, TILE)).flatten(-2)
        for each in (values.float(), places)
    )
    rows = values.new_zeros(*values.shape[:-1], wide).scatter_add_(-1, places, values)
    return top_keys(rows @ x.tiled_basis.T, -(-budget // TILE))


def maps(x: Given, budget: int) -> dict[str, Callable[[], Tensor]]:
    return {
        "map of keys": partial(map_of_keys, x, budget),
        "map of tiles": partial(map_of_tiles, x, budget),
    }


def attends(x: Given, budget: int) -> dict[str, tuple[str, Callable[[], Tensor]]]:
    """Name -> which map it needs, and the call with that map made before."""
    made = {name: make() for name, make in maps(x, budget).items()}
    keys, tiles = made["map of keys"], made["map of tiles"]
    told: dict[str, tuple[str, Callable[[], Tensor]]] = {
        path: ("map of keys", partial(ATTEND[path], x.q, x.k, x.v, keys, x.prefix, 0.0))
        for path in ("masked", "gather", "flex")
    }
    if gathered(x, budget) > GATHERED:
        del told["gather"]
    told["flex, whole tiles"] = (
        "map of tiles",
        partial(flex_tiles, x.q, x.k, x.v, tiles, x.prefix),
    )
    return told


def agreement(x: Given, budget: int) -> dict[str, float]:
    """What the ways are held to: the share of entries in which each map is that of the module, and
    how far each way's result is from masked attention by the same map."""
    scores = x.predictor.scores(x.q, x.k, None)
    whole = top_tiles(scores, budget, TILE, x.prefix)
    tiles = spread(map_of_tiles(x, budget), x.q.shape[2], TILE, x.prefix)
    keys = map_of_keys(x, budget)
    found = {
        "map of keys": float((keys == map_by_module(x)).float().mean()),
        "map of tiles": float((tiles == whole).float().mean()),
    }
    for way, (of, call) in attends(x, budget).items():
        rows = keys if of == "map of keys" else tiles
        expected = ATTEND["masked"](x.q, x.k, x.v, rows, x.prefix, 0.0)
        found[way] = float((call() - expected).abs().max())
    return found


def gathered(x: Given, budget: int) -> int:
    """Bytes of the keys and values that are gathered in one call."""
    return 2 * x.q.numel() * x.q.element_size() * budget


def dense(x: Given) -> Tensor:
    return scaled_dot_product_attention(x.q, x.k, x.v)
