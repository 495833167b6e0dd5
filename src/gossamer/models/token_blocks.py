"""A vision transformer's blocks with fewer and fewer tokens: those removed are gone."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from gossamer.models.attention import SelectiveAttention, selective
from gossamer.models.parts import parts_of
from gossamer.models.surgery import InPlace, replace_module
from gossamer.sparsity.attention import top_keys


class PrunedBlock(InPlace):
    """In the place of a timm `Block`, with its parts; its attention is a `SelectiveAttention`.

    After the attention and before the feed-forward layers, of the patches the `left` stay that the
    class token attends to most, the mean over heads; in their order. None: all stay.
    """

    # of timm's
    norm1: nn.Module
    attn: SelectiveAttention
    ls1: nn.Module
    drop_path1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    ls2: nn.Module
    drop_path2: nn.Module

    def set_up(self, left: int | None, prefix: int) -> None:  # type: ignore[override]
        self.left, self.prefix = left, prefix
        self.active = True

    def forward(self, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, n, d), at `positions` (B, n) of the grid, to (B, n', d) and their positions; None:
        all are there."""
        prunes = self.active and self.left is not None
        mixed, scores = self.attn.attend(self.norm1(x), positions=positions, scored=prunes)
        x = x + self.drop_path1(self.ls1(mixed))
        if prunes:
            assert scores is not None and self.left is not None
            kept = kept_tokens(scores, self.left, self.prefix)  # (B, n')
            x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
            positions = kept if positions is None else positions.gather(1, kept)
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x)))), positions


class PrunedBlocks(InPlace):
    """In the place of the `nn.Sequential` of a model's blocks, all `PrunedBlock`s.

    `latest["positions"]` (B, n') are the tokens that were left in the latest pass, None if all."""

    def set_up(self) -> None:
        self.latest: dict[str, Tensor | None] = {}

    def forward(self, x: Tensor) -> Tensor:
        positions = None
        for block in self.children():
            x, positions = block(x, positions)
        self.latest["positions"] = positions
        return x


def kept_tokens(scores: Tensor, left: int, prefix: int) -> Tensor:
    """(B, prefix + left) Places of the first `prefix` tokens and, in order, of the `left` patches
    with the largest of `scores` (B, patches); ties go to the lower place."""
    chosen = top_keys(scores, left)
    patches = chosen.nonzero()[:, 1].view(len(scores), -1) + prefix
    first = torch.arange(prefix, device=scores.device).expand(len(scores), -1)
    return torch.cat([first, patches], 1)


def alive(patches: int, keep: float, locations: tuple[int, ...], blocks: int) -> list[int]:
    """Patches that are left behind each block: ceil(keep^k * patches) behind the k-th location."""
    passed = [sum(place <= block for place in locations) for block in range(blocks)]
    return [math.ceil(round(keep**count * patches, 6)) for count in passed]


def prune_blocks(model: nn.Module, left: list[int | None]) -> list[PrunedBlock]:
    """Make every block of the model a `PrunedBlock`, with `left` patches behind it."""
    parts = parts_of(model)
    selective(model)
    for path, count in zip(parts.blocks, left, strict=True):
        old = model.get_submodule(path)
        replace_module(model, path, PrunedBlock.over(old, left=count, prefix=parts.prefix))
    home = _home(model)
    replace_module(model, home, PrunedBlocks.over(model.get_submodule(home)))
    return pruned_blocks(model)


def positions_left(model: nn.Module) -> Tensor | None:
    """(B, n') Which tokens were left at the end of the model's latest pass; None: all of them."""
    blocks = model.get_submodule(_home(model))
    return blocks.latest.get("positions") if isinstance(blocks, PrunedBlocks) else None


def _home(model: nn.Module) -> str:
    """The path of what holds the blocks."""
    return parts_of(model).blocks[0].rpartition(".")[0]


def pruned_blocks(model: nn.Module) -> list[PrunedBlock]:
    return [cast(PrunedBlock, model.get_submodule(path)) for path in parts_of(model).blocks]


def block_problems(model: nn.Module) -> list[str]:
    """A line if the blocks are not timm's plain ones behind a class token."""
    parts = parts_of(model)
    for path in parts.blocks:
        module: Any = model.get_submodule(path)
        if type(module) is not Block:
            kind = type(module).__name__
            return [
                f"the model's {path} is a {kind}, not timm's plain Block over all tokens; use a "
                "ViT or DeiT, e.g. model=vit model.source=deit_small_patch16_224"
            ]
    if not parts.prefix:
        return [
            "the model has no class token, whose attention says which patches stay; use one that "
            "has, e.g. model=vit model.source=deit_small_patch16_224"
        ]
    return []
