"""timm's attention with a say in which keys a query attends to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

from timm.layers import Attention
from torch import Tensor, nn

from gossamer.models.parts import parts_of
from gossamer.models.surgery import InPlace, replace_module
from gossamer.sparsity.attention import probabilities, with_prefix
from gossamer.sparsity.attention_paths import ATTEND, Kernel, whole_tiles

# what is told about a pass: (q, k (B, H, n, d), attention, map (B, H, n, n), positions (B, n))
Watch = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], None]


class AttentionInPlace(InPlace):
    """In the place of a timm `Attention`, with its parts."""

    qkv: nn.Linear
    q_norm: nn.Module
    k_norm: nn.Module
    attn_drop: nn.Dropout
    norm: nn.Module
    proj: nn.Linear
    proj_drop: nn.Module
    num_heads: int
    head_dim: int
    attn_dim: int

    def of_heads(self, x: Tensor, mask: Tensor | None, is_causal: bool) -> tuple[Tensor, ...]:
        """q, k and v (B, H, n, d_h), normalised as timm does. ValueError if timm's caller has a
        mask of its own."""
        if mask is not None or is_causal:
            raise ValueError(f"{type(self).__name__} says itself who attends to what: no mask")
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.q_norm(q), self.k_norm(k), v

    def joined(self, mixed: Tensor) -> Tensor:
        """(B, n, d) from the mixed values (B, H, n, d_h)."""
        batch, _, tokens, _ = mixed.shape
        out = self.norm(mixed.transpose(1, 2).reshape(batch, tokens, self.attn_dim))
        return self.proj_drop(self.proj(out))

    @property
    def dropout(self) -> float:
        """Of attention, now."""
        return self.attn_drop.p if self.training else 0.0


class SelectiveAttention(AttentionInPlace):
    """`connectivity`, if there is one, is called with (q, k, positions) and returns a bool map
    (B, H, n - prefix, n): the keys of each patch's query. The first `prefix` queries attend to all.

    Attributes:
        mode: "sparse"; "dense" attends to everything, with the connectivity asked for nothing but
            its `reconstruction` (q, k, attention, positions), if it trains.
        kernel: how the sparse products are computed; all agree (`sparsity.attention_paths`).
    """

    connectivity: Any

    def set_up(self, prefix: int, kernel: Kernel = "masked") -> None:  # type: ignore[override]
        self.prefix = prefix
        self.kernel: Kernel = kernel
        self.mode: Literal["sparse", "dense"] = "sparse"
        self.register_module("connectivity", None)
        self.watch: list[Watch] = []

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        positions: Tensor | None = None,
    ) -> Tensor:
        """(B, n, d) to (B, n, d). `positions` (B, n): which of the grid's tokens these are, if some
        were removed. Raises ValueError for a mask of the caller's."""
        return self.attend(x, attn_mask, is_causal, positions)[0]

    def attend(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        positions: Tensor | None = None,
        *,
        scored: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `forward`; with `scored` also (B, n - prefix): how much the first query attends to
        each patch, the mean over heads."""
        q, k, v = self.of_heads(x, attn_mask, is_causal)
        out = self.joined(self._mixed(q, k, v, positions))
        if not scored:
            return out, None
        return out, probabilities(q[:, :, :1], k).mean(1)[:, 0, self.prefix :]

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor | None) -> Tensor:
        """(B, H, n, d_h) The values, mixed."""
        chooses = self.connectivity is not None
        learns = chooses and self.mode == "dense" and self.training
        if self.watch or learns:
            attention = probabilities(q, k)
            if learns:
                self.connectivity.reconstruction(q, k, attention, positions)
            for watch in self.watch:
                chosen = with_prefix(self.connectivity(q, k, positions), self.prefix)
                watch(q, k, attention, chosen, positions)
        if not chooses or self.mode == "dense":  # as timm computes it
            return nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)
        if self.kernel == "flex":
            tiles = self.connectivity.tiles(q, k, positions)
            if tiles is not None:
                return whole_tiles(q, k, v, tiles, self.prefix, self.dropout)
        rows = self.connectivity(q, k, positions)
        return ATTEND[self.kernel](q, k, v, rows, self.prefix, self.dropout)


def selectable(model: nn.Module) -> dict[str, nn.Module]:
    """The attention modules that a connectivity can be given, by path, in execution order: timm's
    `Attention`, and a `SelectiveAttention` that has none."""
    found = {path: model.get_submodule(path) for path in parts_of(model).attention}
    return {
        path: module
        for path, module in found.items()
        if type(module) is Attention
        or (isinstance(module, SelectiveAttention) and module.connectivity is None)
    }


def selectable_problems(model: nn.Module) -> list[str]:
    """A line if not every attention module of the model is `selectable`."""
    every, found = parts_of(model).attention, selectable(model)
    for path in every:
        if path not in found:
            kind = type(model.get_submodule(path)).__name__
            return [
                f"the model's {path} is a {kind}, not timm's plain Attention over all tokens; use "
                "a ViT or DeiT, e.g. model=vit model.source=deit_small_patch16_224"
            ]
    if parts_of(model).grid is None:
        return ["the model has no patches; use a ViT or DeiT, e.g. model=vit"]
    return []


def selective(model: nn.Module) -> dict[str, SelectiveAttention]:
    """Every `selectable` module, made a `SelectiveAttention` in its place."""
    for path, module in selectable(model).items():
        if type(module) is Attention:
            prefix = parts_of(model).prefix
            replace_module(model, path, SelectiveAttention.over(module, prefix=prefix))
    return attentions(model)


def attentions(model: nn.Module) -> dict[str, SelectiveAttention]:
    """The `SelectiveAttention` modules, by path, in execution order."""
    found = {path: model.get_submodule(path) for path in parts_of(model).attention}
    return {p: m for p, m in found.items() if isinstance(m, SelectiveAttention)}


def tokens_of(model: nn.Module) -> int:
    """n: the patches and what stands before them."""
    parts = parts_of(model)
    rows, columns = cast(tuple[int, int], parts.grid)
    return rows * columns + parts.prefix


@contextmanager
def watched(attention: SelectiveAttention, watch: Watch) -> Iterator[None]:
    """`watch` is told of every pass through `attention`, while the block lasts."""
    attention.watch.append(watch)
    try:
        yield
    finally:
        attention.watch.remove(watch)
