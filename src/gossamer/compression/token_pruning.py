"""Token pruning: after some blocks the patches that the class token attends to least are removed.

The scores of EViT (Liang et al.: Not all patches are what you need, ICLR 2022, arXiv:2202.07800) at
the places of Sparsifiner's released code (Wei et al., CVPR 2023, arXiv:2303.13755): in the blocks
`locations`, between attention and feed-forward layers, a patch's score is the mean over heads of
what the class token attends to it; behind the k-th of them the ceil(keep^k (n - 1)) best stay.

    prune_tokens  the removal is in force from here on
    distill       L = 1.0 L_cls + 0.5 KL(teacher ‖ student) + 0.5 MSE of the patches that are left

Removed tokens are gone: no later product is computed for them. What differs from EViT: they are not
fused into one token; keep is not lowered over the training.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.models.attention import tokens_of
from gossamer.models.parts import parts_of
from gossamer.models.token_blocks import (
    alive,
    block_problems,
    prune_blocks,
    pruned_blocks,
)
from gossamer.models.token_distilled import DISTILL, TokenDistilled
from gossamer.sparsity import attention_macs

PRUNE = Stage("prune_tokens", share=0.0)


class TokenPruning(TokenDistilled):
    """Remove patches by class attention.

    Args:
        keep: share of the patches that are left behind each of the locations.
        locations: blocks, from 0; None: a quarter, a half and three quarters of the depth.
        cls, kd, tokens: weights of the labels', the logits' and the tokens' terms of `distill`.
        recover: share of the steps that train the backbone: 1, or 0 to train nothing.
        lr: learning rate; None: the trainer's. ema: decay of the averaged copy; None: none.
    """

    start: contract.Start = "trained"
    produces = frozenset({"pruned tokens"})
    keeps = frozenset({"sparse weights"})  # the engine holds the zeros

    def __init__(
        self,
        keep: float = 0.7,
        locations: tuple[int, ...] | None = None,
        cls: float = 1.0,
        kd: float = 0.5,
        tokens: float = 0.5,
        recover: float = 1.0,
        lr: float | None = 8e-5,
        ema: float | None = None,
    ) -> None:
        self.keep = keep
        self.locations = None if locations is None else tuple(locations)
        self.cls, self.kd, self.tokens = cls, kd, tokens
        self.recover = recover
        self.lr, self.ema = lr, ema

    def places(self, model: nn.Module) -> tuple[int, ...]:
        """The blocks that remove patches."""
        depth = len(parts_of(model).blocks)
        if self.locations is None:
            return tuple(dict.fromkeys(depth * quarter // 4 for quarter in (1, 2, 3)))
        return self.locations

    def alive(self, model: nn.Module) -> list[int]:
        """Patches that are left behind each block."""
        parts = parts_of(model)
        patches = tokens_of(model) - parts.prefix
        return alive(patches, self.keep, self.places(model), len(parts.blocks))

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        if found := block_problems(model):
            return found
        depth = len(parts_of(model).blocks)
        if not 0 < self.keep <= 1:
            found.append(f"keep={self.keep}: a share of the patches, above 0 and to 1")
        places = self.places(model)
        if not places or min(places) < 0 or max(places) >= depth or len({*places}) < len(places):
            found.append(
                f"locations={list(places)}: different blocks from 0 to {depth - 1}, "
                f"e.g. [{depth // 2}]"
            )
        return found + self.distillation_problems(model, data)

    def stages(self, training: list[Stage]) -> list[Stage]:
        plain = [stage for stage in training if not stage.share]
        return [*plain, PRUNE, *self.distill_stage(self.recover)]

    def prepare(self, model: nn.Module) -> None:
        places = self.places(model)
        left = [count if block in places else None for block, count in enumerate(self.alive(model))]
        for block in prune_blocks(model, left):
            block.active = False

    def enter(self, stage: Stage, model: nn.Module) -> None:
        for block in pruned_blocks(model):
            block.active = stage.name == DISTILL

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        """ "prune_tokens": the blocks remove tokens from here on, which is a switch and no work."""
        if stage.name == PRUNE.name:
            for block in pruned_blocks(model):
                block.active = True
            yield from (place for place in ("tokens",) if place not in done)

    def finalize(self, model: nn.Module) -> None:
        for block in pruned_blocks(model):
            block.active = True

    @torch.no_grad()
    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        """So many patches leave every block, of random tokens."""
        parts, blocks, wrong = parts_of(loaded), pruned_blocks(loaded), []
        shape = (2, tokens_of(loaded), blocks[0].attn.qkv.in_features)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        x, positions = x.to(next(loaded.parameters()).device), None
        for path, block, wanted in zip(parts.blocks, blocks, self.alive(loaded), strict=True):
            x, positions = block(x, positions)
            left = x.shape[1] - parts.prefix
            if left != wanted:
                wrong.append(f"; {path} leaves {left}, not {wanted}")
        told = ", ".join(map(str, dict.fromkeys(self.alive(loaded))))
        return [Check("patches left", not wrong, told + "".join(wrong[:1]))]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        """The products of each block's attention, with the tokens that reach it. All else that
        removed tokens save is in the counted operations."""
        parts, every = parts_of(loaded), tokens_of(loaded)
        reach = [every, *(count + parts.prefix for count in self.alive(loaded))]
        facts = []
        for path, tokens in zip(parts.attention, reach, strict=False):
            attention = loaded.get_submodule(path)
            fewer = tokens < every
            facts.append(
                Fact(
                    name=path,
                    shape=(attention.num_heads, tokens, tokens),
                    pattern="tokens" if fewer else "dense",
                    macs=attention_macs.dense(tokens, attention.attn_dim),
                    dense_macs=attention_macs.dense(every, attention.attn_dim),
                    block_density=1.0,
                    changed=fewer,
                    skipped=None if fewer else "no token is removed before it",
                )
            )
        return facts
