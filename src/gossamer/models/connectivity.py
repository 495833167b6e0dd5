"""Who says which keys a query attends to, and how good that is: connectivities, their recall."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Generator, Tensor, nn

from gossamer.contract import Batch
from gossamer.models.attention import SelectiveAttention, watched
from gossamer.models.inference import inference
from gossamer.models.streaming import inputs_of_rows
from gossamer.sparsity.attention import (
    gathered_pairs,
    mass,
    same_tokens,
    tile_density,
    top_keys,
)

# what `recalls` finds for a layer: the share of the patches' dense attention that stands on the
# keys kept by the connectivity, by the true largest, by the mean over images and by chance; the
# density of the whole map, by element and by tiles of 128 x 128; and the number of tokens
FIGURES = (
    "recall",
    "oracle recall",
    "static recall",
    "random recall",
    "density",
    "block density",
    "tokens",
)


class Connectivity(nn.Module, ABC):
    """Scores the keys of every patch's query and keeps the `budget` largest (H: heads, n: tokens,
    of which `prefix` are no patches).

    The buffer `seen` (7,) is what `recalls` found, in the order of FIGURES; zeros before.
    """

    def __init__(self, budget: int, prefix: int, **more: Any) -> None:
        super().__init__()
        self.budget, self.prefix = budget, prefix
        self.arguments: dict[str, Any] = {"budget": budget, "prefix": prefix, **more}
        self.register_buffer("seen", torch.zeros(len(FIGURES), dtype=torch.float64))

    @abstractmethod
    def scores(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
        """(B, H, n - prefix, n) from queries and keys (B, H, n, d_h), of all tokens or those at
        `positions` (B, n)."""

    @torch.no_grad()
    def forward(self, q: Tensor, k: Tensor, positions: Tensor | None = None) -> Tensor:
        """bool (B, H, n - prefix, n). Of q, k and positions alone: nothing is remembered."""
        return top_keys(self.scores(q, k, positions), self.budget)

    def tiles(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor | None:
        """(B, H, t, t) bool, the same choice in whole tiles of 128 x 128 on the grid of all tokens;
        None if keys are not chosen so."""
        return None

    def macs(self, tokens: int, width: int, heads: int) -> int:
        """Multiply-accumulates that it takes to choose, of one sample, in closed form."""
        return 0

    def figures(self) -> dict[str, float]:
        """What `recalls` found, by name."""
        return dict(zip(FIGURES, self.get_buffer("seen").tolist(), strict=True))


class Oracle(Connectivity):
    """The largest of the true scores: an upper bound, which takes the dense product to know."""

    def scores(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
        return q[:, :, self.prefix :] @ k.transpose(-2, -1)

    def macs(self, tokens: int, width: int, heads: int) -> int:
        # of its product it needs the kept entries no second time
        return (tokens - self.prefix) * (tokens - min(self.budget, tokens)) * width


class Fixed(Connectivity):
    """The largest of scores that do not depend on the image: the buffer `fixed` (H, n - prefix, n),
    float, or bool once the map is made for good (`bake`)."""

    def __init__(self, budget: int, prefix: int, heads: int, tokens: int) -> None:
        super().__init__(budget, prefix, heads=heads, tokens=tokens)
        self.register_buffer("fixed", torch.zeros(heads, tokens - prefix, tokens))

    def scores(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
        fixed = self.get_buffer("fixed")
        if positions is None:
            same_tokens(k.shape[-2], fixed.shape[-1], "static_attention")
            return fixed[None]
        return gathered_pairs(fixed, positions, self.prefix)

    @torch.no_grad()
    def forward(self, q: Tensor, k: Tensor, positions: Tensor | None = None) -> Tensor:
        scores = self.scores(q, k, positions)
        chosen = scores if scores.dtype == torch.bool else top_keys(scores, self.budget)
        return chosen.expand(len(q), -1, -1, -1)

    def bake(self) -> None:
        """Keep the map instead of the scores, a quarter of the bytes; for all tokens only."""
        self.register_buffer("fixed", top_keys(self.get_buffer("fixed"), self.budget))


@torch.no_grad()
def mean_attention(
    model: nn.Module,
    layers: dict[str, SelectiveAttention],
    batches: Iterable[Batch],
    samples: int,
    tokens: int,
) -> dict[str, Tensor]:
    """{path: (H, n, n)} The mean dense attention of `samples` rows, by place in the grid of all
    `tokens`; pairs of which one was removed count as 0."""
    totals: dict[str, Tensor] = {}

    def add(path: str, attention: Tensor, positions: Tensor | None) -> None:
        total = _placed(attention, positions, tokens).sum(0, dtype=torch.float64)
        totals[path] = totals[path] + total if path in totals else total

    with ExitStack() as stack, inference(model):
        for path, layer in layers.items():
            stack.enter_context(
                watched(layer, lambda q, k, p, m, where, path=path: add(path, p, where))
            )
        for inputs in inputs_of_rows(batches, samples):
            model(**inputs)
    return {path: (total / samples).float() for path, total in totals.items()}


@torch.no_grad()
def recalls(
    model: nn.Module,
    layers: dict[str, SelectiveAttention],
    batches: Iterable[Batch],
    samples: int,
    tokens: int,
    generator: Generator,
) -> dict[str, Tensor]:
    """{path: (7,) float64, in the order of FIGURES} from `samples` rows, after another `samples`
    that the static pattern is the mean of. `generator` draws the random map."""
    static = mean_attention(model, layers, batches, samples, tokens)
    sums = {path: torch.zeros(len(FIGURES), dtype=torch.float64) for path in layers}
    counted = dict.fromkeys(layers, 0)

    def add(
        path: str, q: Tensor, k: Tensor, attention: Tensor, chosen: Tensor, where: Tensor | None
    ) -> None:
        connectivity = layers[path].connectivity
        prefix, budget = connectivity.prefix, connectivity.budget
        rows = attention[:, :, prefix:]  # (B, H, n - prefix, n)
        if where is None:
            fixed = static[path][:, prefix:].expand_as(rows)
        else:
            fixed = gathered_pairs(static[path][:, prefix:], where, prefix)
        chance = torch.rand(rows.shape, generator=generator).to(rows.device)
        maps = (chosen[:, :, prefix:], *(top_keys(s, budget) for s in (rows, fixed, chance)))
        found = [mass(rows, one).mean(dtype=torch.float64) for one in maps]
        found += [chosen.double().mean(), tile_density(chosen), rows.shape[-1]]
        figures = torch.tensor([float(value) for value in found], dtype=torch.float64)
        sums[path] += len(rows) * figures
        counted[path] += len(rows)

    with ExitStack() as stack, inference(model):
        for path, layer in layers.items():
            stack.enter_context(
                watched(layer, lambda q, k, p, m, where, path=path: add(path, q, k, p, m, where))
            )
        left = samples
        for inputs in inputs_of_rows(batches, 2 * samples):
            size = len(next(iter(inputs.values())))
            skipped = min(left, size)
            left -= skipped
            if skipped < size:
                model(**{name: value[skipped:] for name, value in inputs.items()})
    return {path: total / counted[path] for path, total in sums.items()}


def _placed(attention: Tensor, positions: Tensor | None, tokens: int) -> Tensor:
    """(B, H, tokens, tokens) with (B, H, n, n) at `positions` (B, n), 0 elsewhere."""
    if positions is None:
        return attention
    batch, heads, _, _ = attention.shape
    full = attention.new_zeros(batch, heads, tokens, tokens)
    rows, columns = positions[:, None, :, None], positions[:, None, None, :]
    every = (
        torch.arange(batch, device=attention.device)[:, None, None, None],
        torch.arange(heads, device=attention.device)[None, :, None, None],
    )
    full[every[0], every[1], rows, columns] = attention
    return full
