"""Static sparse attention: the same few keys for every image, the baseline of those that choose.

    pattern      the map of each block: of the mean attention over training images the largest B of
                 each row ("mean"); the B nearest patches and the class token ("window"); B keys
                 drawn once ("random"). The class token's own row is dense
    sparsify     P = softmax(Q Kᵀ / sqrt(d_h)) over what the map keeps, from here on
    distill      the backbone trains with it, as in `sparsifiner`
    recall       as in `sparsifiner`

Fixed patterns of this kind: Child et al. 2019, arXiv:1904.10509 (local and strided); Beltagy et al.
2020, arXiv:2004.05150 (a window and global tokens).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from gossamer import contract
from gossamer.contract import Batch, Stage
from gossamer.models.attention import SelectiveAttention, attentions, tokens_of
from gossamer.models.chosen_keys import ChosenKeys, sparsified
from gossamer.models.connectivity import Connectivity, Fixed, mean_attention
from gossamer.models.parts import parts_of
from gossamer.sparsity.attention_paths import Kernel

Kind = Literal["mean", "window", "random"]


class StaticAttention(ChosenKeys):
    """The same keys for every image.

    Args:
        keep: share of the tokens that each patch's query attends to, for all blocks or one each.
        budget: the number of them instead; None: ceil(keep * tokens).
        kind: mean, window or random.
        kernel: how the finished model computes: masked, gather or flex (docs/sparse-attention.md).
        cls, kd, tokens: weights of the labels', the logits' and the tokens' terms of `distill`.
        recover: share of the steps that train the backbone; 0: it is not trained.
        lr: learning rate; None: the trainer's. ema: decay of the averaged copy; None: none.
        samples: training rows that the mean is taken of, and that the recall is measured on.
    """

    start: contract.Start = "trained"
    produces = frozenset({"sparse attention"})
    keeps = frozenset({"sparse weights", "pruned tokens"})  # the engine holds the zeros

    def __init__(
        self,
        keep: float | tuple[float, ...] = 0.25,
        budget: int | tuple[int, ...] | None = None,
        kind: Literal["mean", "window", "random"] = "mean",
        kernel: Literal["masked", "gather", "flex"] = "masked",
        cls: float = 1.0,
        kd: float = 0.5,
        tokens: float = 0.5,
        recover: float = 1.0,
        lr: float | None = 8e-5,
        ema: float | None = None,
        samples: int = 128,
    ) -> None:
        self.keep = keep if isinstance(keep, int | float) else tuple(keep)
        self.budget = budget if budget is None or isinstance(budget, int) else tuple(budget)
        self.kind: Kind = kind
        self.kernel: Kernel = kernel
        self.cls, self.kd, self.tokens = cls, kd, tokens
        self.recover = recover
        self.lr, self.ema = lr, ema
        self.samples = samples

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        found = self.key_problems(model, data)
        if self.kind not in get_args(Kind):
            found.append(f"kind={self.kind}: choose {', '.join(get_args(Kind))}")
        return found

    def stages(self, training: list[Stage]) -> list[Stage]:
        plain = [stage for stage in training if not stage.share]
        return sparsified([*plain, Stage("pattern", share=0.0)], self.distill_stage(self.recover))

    def connectivity(self, model: nn.Module, budget: int) -> Connectivity:
        heads = next(iter(attentions(model).values())).num_heads
        return Fixed(budget, parts_of(model).prefix, heads=heads, tokens=tokens_of(model))

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name == "pattern":
            layers = attentions(model)
            if any(path not in done for path in layers):
                scores = self.scores(stage, model, layers, batches)
                for path, layer in layers.items():
                    if path not in done:
                        fixed = layer.connectivity.get_buffer("fixed")
                        fixed.copy_(scores[path][:, layer.prefix :])
                        yield path
        yield from super().apply(stage, model, batches, done)

    def scores(
        self,
        stage: Stage,
        model: nn.Module,
        layers: dict[str, SelectiveAttention],
        batches: Iterable[Batch],
    ) -> dict[str, Tensor]:
        """{path: (H, n, n)}; the largest of each row are kept."""
        tokens = tokens_of(model)
        if self.kind == "mean":
            return mean_attention(model, layers, batches, self.samples, tokens)
        if self.kind == "window":
            near = -distances(cast(tuple[int, int], parts_of(model).grid), parts_of(model).prefix)
            return {path: near.expand(one.num_heads, -1, -1) for path, one in layers.items()}
        return {
            path: torch.rand(
                layer.num_heads, tokens, tokens, generator=stage.generator("random", path)
            )
            for path, layer in layers.items()
        }

    def finalize(self, model: nn.Module) -> None:
        super().finalize(model)
        for layer in attentions(model).values():
            if round(layer.connectivity.figures()["tokens"]) == tokens_of(model):
                layer.connectivity.bake()

    def state_bytes(self, layer: SelectiveAttention) -> int:
        fixed = layer.connectivity.get_buffer("fixed")
        return fixed.numel() * fixed.element_size()


def distances(grid: tuple[int, int], prefix: int) -> Tensor:
    """(n, n) Squared distance of each pair of patches in a grid (rows, columns); to and from the
    `prefix` tokens it is 0."""
    rows, columns = grid
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], 1).float()  # (patches, 2)
    between = torch.cdist(places, places).square().round()
    return nn.functional.pad(between, (prefix, 0, prefix, 0))
