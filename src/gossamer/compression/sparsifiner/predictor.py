"""The connectivity predictor of Sparsifiner: one for each block, shared by its heads.

For queries Q and keys K (n, d_h) of a head, n_down = n // reduce_n and c' = d_h // reduce_c:

    q = Q W_q'ᵀ + b,  k = K W_k'ᵀ + b                      channel reduction      (n, c')
    k_down = kᵀ W_down                                     reduction of the keys  (c', n_down)
    A_down = softmax(κ q k_down)                           of the patches' rows   (n - 1, n_down)
    Ã = A_down W_upᵀ                                       while it is trained    (n - 1, n)
    Ã = top-s(A_down) Threshold_τ(|W_up|)ᵀ                 afterwards

A row of W_upᵀ is one of n_down basis patterns over all keys. Trained with its sign, used without:
the paper's own mismatch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import pad

from gossamer.models.connectivity import Connectivity
from gossamer.sparsity import attention_macs
from gossamer.sparsity.attention import TILE, same_tokens, spread, top_keys

Scale = Literal["heads", "dim"]
STD = 0.02  # of W_down and W_up, truncated normal


class LowRank(Connectivity):
    """The predictor of one block. Its parameters are drawn by `draw`.

    Args:
        budget, prefix: as in `Connectivity`.
        tokens, head_dim, heads: n, d_h, H.
        basis: n_down. channels: c'. coefficients: s. threshold: τ.
        scale: κ: "heads", H^(-1/2), as released; "dim", c'^(-1/2).
        tile: the budget keeps blocks of so many keys whole (`sparsity.attention.top_tiles`).
    """

    def __init__(
        self,
        budget: int,
        prefix: int,
        tokens: int,
        head_dim: int,
        heads: int,
        basis: int,
        channels: int,
        coefficients: int,
        threshold: float,
        scale: Scale,
        tile: int,
    ) -> None:
        super().__init__(
            budget,
            prefix,
            tokens=tokens,
            head_dim=head_dim,
            heads=heads,
            basis=basis,
            channels=channels,
            coefficients=coefficients,
            threshold=threshold,
            scale=scale,
            tile=tile,
        )
        self.tokens, self.coefficients, self.threshold = tokens, coefficients, threshold
        self.kappa = (heads if scale == "heads" else channels) ** -0.5
        self.tile = tile
        self.query = nn.Linear(head_dim, channels, device="meta")  # W_q'
        self.key = nn.Linear(head_dim, channels, device="meta")  # W_k'
        self.down = nn.Parameter(torch.empty(tokens, basis, device="meta"))
        self.up = nn.Parameter(torch.empty(tokens, basis, device="meta"))
        self.to_empty(device=self.get_buffer("seen").device)
        self.get_buffer("seen").zero_()
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.error = SummedError()

    @torch.no_grad()
    def draw(self, generator: Generator) -> None:
        """The channel reductions as torch draws a linear layer, biases 0; W_down, W_up truncated
        normal."""
        for layer in (self.query, self.key):
            bound = layer.in_features**-0.5
            layer.weight.copy_(
                torch.empty(layer.weight.shape).uniform_(-bound, bound, generator=generator)
            )
            layer.bias.zero_()
        for matrix in (self.down, self.up):
            drawn = torch.empty(matrix.shape)
            nn.init.trunc_normal_(drawn, std=STD, a=-2 * STD, b=2 * STD, generator=generator)
            matrix.copy_(drawn)

    def coefficients_of(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
        """A_down (B, H, n - prefix, n_down); its rows add to 1."""
        if positions is None:
            same_tokens(k.shape[-2], self.tokens, "sparsifiner")
            keys = self.key(k).transpose(-2, -1) @ self.down  # (B, H, c', n_down)
        else:
            keys = self.key(k).transpose(-2, -1) @ self.down[positions][:, None]
        return (self.query(q[:, :, self.prefix :]) @ keys * self.kappa).softmax(-1)

    def basis(self) -> Tensor:
        """Threshold_τ(|W_up|) (n, n_down): 0 where not above τ."""
        size = self.up.abs()
        return size * (size > self.threshold)

    def kept_coefficients(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
        """top-s(A_down) (B, H, n - prefix, n_down)."""
        down = self.coefficients_of(q, k, positions)
        return down * top_keys(down, self.coefficients)

    def scores(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
        """Ã as it is used: of each query's coefficients the s largest, on the sparse basis."""
        return self.kept_coefficients(q, k, positions) @ _transposed(self.basis(), positions)

    @torch.no_grad()
    def forward(self, q: Tensor, k: Tensor, positions: Tensor | None = None) -> Tensor:
        if self.tile > 1:
            return spread(self.chosen(q, k, positions), k.shape[-2], self.tile, self.prefix)
        return super().forward(q, k, positions)

    def chosen(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
        """(B, H, t, t) bool: the tiles that `sparsity.attention.top_tiles` keeps of Ã. The sum of Ã
        over a tile is a product of sums, the coefficients' over its queries and the basis' over its
        keys, so no entry of Ã is computed."""
        over = -k.shape[-2] % self.tile
        rows = pad(self.kept_coefficients(q, k, positions), (0, 0, self.prefix, over))
        basis = pad(_transposed(self.basis(), positions), (0, over))
        sums = rows.unflatten(-2, (-1, self.tile)).sum(-2) @ basis.unflatten(
            -1, (-1, self.tile)
        ).sum(-1)
        return top_keys(sums, -(-self.budget // self.tile))

    @torch.no_grad()
    def tiles(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor | None:
        return self.chosen(q, k, positions) if self.tile == TILE else None

    def reconstruction(
        self, q: Tensor, k: Tensor, attention: Tensor, positions: Tensor | None
    ) -> Tensor:
        """The `error` () of Ã = A_down W_upᵀ, as it is trained, against dense attention
        (B, H, n, n), which gets no gradient."""
        down = self.coefficients_of(q, k, positions)
        approximate = down @ _transposed(self.up, positions)
        return self.error(approximate, attention[:, :, self.prefix :].detach())

    def basis_density(self) -> float:
        """Share of the thresholded basis that is not 0."""
        return float((self.up.detach().abs() > self.threshold).float().mean())

    def macs(self, tokens: int, width: int, heads: int) -> int:
        return attention_macs.predictor(
            tokens,
            width,
            heads,
            channels=self.query.out_features,
            basis=self.up.shape[1],
            kept=self.coefficients,
            density=self.basis_density(),
        )

    def figures(self) -> dict[str, float]:
        return super().figures() | {"basis density": self.basis_density()}


class SummedError(nn.Module):
    """Σ_hij (Ã - A)², the mean over the batch: a scalar. A module, so that a stage can capture what
    it returns."""

    def forward(self, approximate: Tensor, attention: Tensor) -> Tensor:
        return (approximate - attention).square().sum() / len(attention)


def _transposed(basis: Tensor, positions: Tensor | None) -> Tensor:
    """(n_down, n), or (B, 1, n_down, n') of the tokens that are left."""
    if positions is None:
        return basis.transpose(0, 1)
    return basis[positions].transpose(1, 2)[:, None]
