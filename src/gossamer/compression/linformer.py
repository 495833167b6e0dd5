"""Linformer: attention of low rank, the baseline of those that choose their keys.

Wang, Li, Khabsa, Fang, Ma: Linformer: self-attention with linear complexity, 2020,
arXiv:2006.04768; with a fourth of the tokens it is the low-rank baseline of Sparsifiner's released
code (Wei et al., CVPR 2023, arXiv:2303.13755).

    project   E and F of each block are filled, and from here on
              P = softmax(Q (Eᵀ K)ᵀ / sqrt(d_h)), out = P (Fᵀ V), E and F (n, r), of all heads
    distill   L = 1.0 L_cls + 0.5 KL(teacher ‖ student) + 0.5 MSE of the patches; all trains, E and
              F too

Linformer is trained from the start with E and F drawn at random. Here it replaces the attention of
a trained model, which a random mixture of its keys would destroy. So each column of E and F is the
mean of neighbouring tokens, which in images are alike, and the class token, like nothing else, has
a column of its own; with r = n this is the dense model. A group counts once in the softmax,
whatever its size, so even a group of equal tokens does not attend as it did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.models.attention import selectable, selectable_problems, tokens_of
from gossamer.models.low_rank_attention import LowRankAttention, low_rank_attentions
from gossamer.models.parts import parts_of
from gossamer.models.surgery import replace_module
from gossamer.models.token_distilled import DISTILL, TokenDistilled
from gossamer.sparsity import attention_macs

PROJECT = Stage("project", share=0.0)


class Linformer(TokenDistilled):
    """Low-rank attention.

    Args:
        rank: r, how many keys and values are left of the n tokens; None: n // reduce.
        reduce: tokens for each of them.
        cls, kd, tokens: weights of the labels', the logits' and the tokens' terms of `distill`.
        recover: share of the steps that train the model: 1, or 0 to train nothing.
        lr: learning rate; None: the trainer's. ema: decay of the averaged copy; None: none.
    """

    start: contract.Start = "trained"
    produces = frozenset({"low-rank attention"})
    keeps = frozenset({"sparse weights"})  # the engine holds the zeros
    trains = "model"  # E and F too

    def __init__(
        self,
        rank: int | None = None,
        reduce: int = 4,
        cls: float = 1.0,
        kd: float = 0.5,
        tokens: float = 0.5,
        recover: float = 1.0,
        lr: float | None = 8e-5,
        ema: float | None = None,
    ) -> None:
        self.rank, self.reduce = rank, reduce
        self.cls, self.kd, self.tokens = cls, kd, tokens
        self.recover = recover
        self.lr, self.ema = lr, ema

    def rank_of(self, model: nn.Module) -> int:
        """r."""
        return tokens_of(model) // self.reduce if self.rank is None else self.rank

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        if found := selectable_problems(model):
            return found
        tokens = tokens_of(model)
        key, value = ("reduce", self.reduce) if self.rank is None else ("rank", self.rank)
        if not 1 <= value <= tokens:
            found.append(f"{key}={value}: from 1 to {tokens}, the tokens of this model")
        return found + self.distillation_problems(model, data)

    def stages(self, training: list[Stage]) -> list[Stage]:
        plain = [stage for stage in training if not stage.share]
        return [*plain, PROJECT, *self.distill_stage(self.recover)]

    def prepare(self, model: nn.Module) -> None:
        tokens, rank = tokens_of(model), self.rank_of(model)
        for path, module in selectable(model).items():
            layer = LowRankAttention.over(module, tokens=tokens, rank=rank)
            layer.mode = "dense"
            replace_module(model, path, layer)

    def enter(self, stage: Stage, model: nn.Module) -> None:
        for layer in low_rank_attentions(model).values():
            layer.mode = "low rank" if stage.name == DISTILL else "dense"

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        """ "project": fill E and F, and put them in force."""
        if stage.name != PROJECT.name:
            return
        layers = low_rank_attentions(model)
        for path, layer in layers.items():
            if path not in done:
                layer.fill(parts_of(model).prefix)
                yield path
        for layer in layers.values():
            layer.mode = "low rank"

    def finalize(self, model: nn.Module) -> None:
        for layer in low_rank_attentions(model).values():
            layer.mode = "low rank"

    @torch.no_grad()
    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        """The map P Fᵀ (n, n) of random queries and keys has no higher rank than was declared."""
        declared, tokens, wrong = self.rank_of(loaded), tokens_of(loaded), []
        layers = low_rank_attentions(loaded)
        for path, layer in layers.items():
            found = _rank(layer, tokens)
            if found > declared:
                wrong.append(f"; {path} has rank {found}")
        figure = f"{declared} of {tokens} tokens in {len(layers)} blocks" + "".join(wrong[:1])
        whole = len(layers) == len(parts_of(loaded).attention)
        return [Check("rank of the attention", whole and not wrong, figure)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        """The products of each block's attention. The map P Fᵀ has no zero: its density is 1, and
        what is saved stands in `macs`."""
        facts = []
        for path, layer in low_rank_attentions(loaded).items():
            tokens, width = layer.tokens, layer.attn_dim
            facts.append(
                Fact(
                    name=path,
                    shape=(layer.num_heads, tokens, tokens),
                    pattern="low rank",
                    macs=attention_macs.low_rank(tokens, width, layer.rank),
                    dense_macs=attention_macs.dense(tokens, width),
                    block_density=1.0,
                )
            )
        return facts


def _rank(layer: LowRankAttention, tokens: int) -> int:
    """The largest rank of a head's map, seen by mixing the unit vectors, in float64."""
    draw = torch.Generator().manual_seed(0)
    place = next(layer.parameters()).device
    size = (1, layer.num_heads, tokens, layer.head_dim)
    q, k = (torch.randn(size, generator=draw, dtype=torch.float64).to(place) for _ in range(2))
    units = torch.eye(tokens, dtype=torch.float64, device=place)
    maps = layer.mixed(q, k, units.expand(1, layer.num_heads, -1, -1))  # (1, H, n, n)
    return int(torch.linalg.matrix_rank(maps, rtol=1e-9).max())
