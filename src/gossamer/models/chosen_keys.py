"""What methods that choose the keys of each query have in common: where the choice is made, from
which stage on it is in force, its recall, the ledger and the proof."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from gossamer.contract import Batch, Check, Fact, Picture, Stage
from gossamer.models.attention import (
    SelectiveAttention,
    attentions,
    selectable_problems,
    selective,
    tokens_of,
)
from gossamer.models.attention_pictures import connectivity_pictures
from gossamer.models.calibration import sample_problems
from gossamer.models.connectivity import Connectivity, recalls
from gossamer.models.parts import parts_of
from gossamer.models.token_distilled import DISTILL, TokenDistilled
from gossamer.sparsity import attention_macs
from gossamer.sparsity.attention import budget_of
from gossamer.sparsity.attention_paths import ATTEND, Kernel

SPARSIFY = Stage("sparsify", share=0.0)  # from here on queries attend to what was chosen
RECALL = Stage("recall", share=0.0)  # how good the choice is once the backbone was trained with it
ROWS = 2  # of random tokens that the budget is proven on


class ChosenKeys(TokenDistilled):
    """Each patch's query keeps `budget` keys, or ceil(keep * n), chosen by a `Connectivity`; one
    number, or one for each block."""

    keep: float | tuple[float, ...]
    budget: int | tuple[int, ...] | None
    samples: int
    kernel: Kernel

    @abstractmethod
    def connectivity(self, model: nn.Module, budget: int) -> Connectivity:
        """What chooses the keys of one block; nothing is drawn."""

    def budgets(self, model: nn.Module) -> list[int]:
        """B of each block."""
        blocks, tokens = len(parts_of(model).attention), tokens_of(model)
        if self.budget is not None:
            given = self.budget if isinstance(self.budget, tuple) else (self.budget,) * blocks
            return [min(count, tokens) for count in given]
        shares = self.keep if isinstance(self.keep, tuple) else (self.keep,) * blocks
        return [budget_of(share, tokens) for share in shares]

    def key_problems(self, model: nn.Module, data: Any) -> list[str]:
        """What is wrong with the settings, one line each."""
        if found := selectable_problems(model):
            return found
        blocks, tokens = len(parts_of(model).attention), tokens_of(model)
        for key, value in (("keep", self.keep), ("budget", self.budget)):
            several = value if isinstance(value, tuple) else ()
            if several and len(several) != blocks:
                found.append(f"{key}={list(several)}: one number, or {blocks}, one for each block")
        shares = self.keep if isinstance(self.keep, tuple) else (self.keep,)
        found += [
            f"keep={share}: a share of the keys, above 0 and to 1; a number of keys is budget=N"
            for share in shares
            if not 0 < share <= 1
        ]
        counts = self.budget if isinstance(self.budget, tuple) else (self.budget or 1,)
        found += [
            f"budget={count}: from 1 to {tokens}, the tokens of this model with this data"
            for count in (counts if self.budget is not None else ())
            if not 1 <= count <= tokens
        ]
        if self.kernel not in ATTEND:
            found.append(f"kernel={self.kernel}: choose {', '.join(ATTEND)}")
        twice, told = f"samples={2 * self.samples}", f"samples={self.samples} (and as many again)"
        found += [line.replace(twice, told) for line in sample_problems(2 * self.samples, data)]
        return found + self.distillation_problems(model, data)

    def prepare(self, model: nn.Module) -> None:
        place = next(model.parameters()).device
        layers = selective(model)
        for budget, layer in zip(self.budgets(model), layers.values(), strict=True):
            layer.connectivity = self.connectivity(model, budget).to(place)
            layer.mode = "dense"

    def enter(self, stage: Stage, model: nn.Module) -> None:
        self.stage = stage
        for layer in attentions(model).values():
            layer.mode = "sparse" if stage.name in (DISTILL, RECALL.name) else "dense"
            layer.kernel = "masked"  # training is with the reference
            layer.connectivity.requires_grad_(False)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        """ "sparsify", "recall": measure the choice, on training rows; the former puts it in
        force."""
        if stage.name not in (SPARSIFY.name, RECALL.name):
            return
        layers = attentions(model)
        if any(path not in done for path in layers):
            draw = stage.generator("random")
            seen = recalls(model, layers, batches, self.samples, tokens_of(model), draw)
            for path, layer in layers.items():
                if path not in done:
                    layer.connectivity.get_buffer("seen").copy_(seen[path])
                    yield path
        for layer in layers.values():
            layer.mode = "sparse"

    def figures(self, stage: Stage, model: nn.Module) -> dict[str, float]:
        """ "recall 0" and so on, for each block."""
        if stage.name not in (SPARSIFY.name, RECALL.name):
            return {}
        return {
            f"{name} {block}": value
            for block, layer in enumerate(attentions(model).values())
            for name, value in layer.connectivity.figures().items()
        }

    def finalize(self, model: nn.Module) -> None:
        for layer in attentions(model).values():
            layer.mode, layer.kernel = "sparse", self.kernel

    @torch.no_grad()
    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        """Every patch's query keeps what was declared, and every other query all keys; and no
        choice finds more attention than the largest of it."""
        wrong, budgets, layers = [], self.budgets(loaded), attentions(loaded)
        for budget, (path, layer) in zip(budgets, layers.items(), strict=True):
            kept = _kept(layer, tokens_of(loaded))
            least, most = self.kept_keys(budget, tokens_of(loaded))
            if kept[0] < least or kept[1] > most:
                wrong.append(f"; {path} keeps {kept[0]} to {kept[1]}")
        told = ", ".join(map(str, dict.fromkeys(budgets)))
        figure = f"{told} of {tokens_of(loaded)} keys in {len(layers)} blocks" + "".join(wrong[:1])
        figures = [layer.connectivity.figures() for layer in layers.values()]
        recall, oracle, static, chance = (
            sum(one[name] for one in figures) / len(figures)
            for name in ("recall", "oracle recall", "static recall", "random recall")
        )
        bound = all(one["recall"] <= one["oracle recall"] + 1e-6 for one in figures)
        compared = (
            f"{recall:.3f} of attention kept; by the largest {oracle:.3f}, a static pattern "
            f"{static:.3f}, a random one {chance:.3f}"
        )
        return [
            Check("every query keeps its budget of keys", not wrong, figure),
            Check("no more attention is kept than by the largest", bound, compared),
        ]

    def kept_keys(self, budget: int, tokens: int) -> tuple[int, int]:
        """The fewest and the most keys that a query of this budget keeps."""
        return min(budget, tokens), min(budget, tokens)

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        tokens, budgets = tokens_of(loaded), self.budgets(loaded)
        facts = []
        for budget, (path, layer) in zip(budgets, attentions(loaded).items(), strict=True):
            found, width, prefix = layer.connectivity.figures(), layer.attn_dim, layer.prefix
            left = round(found["tokens"])
            least, most = self.kept_keys(budget, left)
            kept = ((left - prefix) * most + prefix * left) / left**2
            products = round(2 * found["density"] * left * left * width)
            facts.append(
                Fact(
                    name=path,
                    shape=(layer.num_heads, left, left),
                    pattern="top keys",
                    target=kept if least == most else None,
                    density=found["density"],
                    macs=products + layer.connectivity.macs(left, width, layer.num_heads),
                    dense_macs=attention_macs.dense(tokens, width),
                    block_density=found["block density"],
                    state_bytes=self.state_bytes(layer),
                )
            )
        return facts

    def state_bytes(self, layer: SelectiveAttention) -> int:
        """Bytes of maps that a block keeps."""
        return 0

    def pictures(self, loaded: nn.Module, batch: Batch) -> list[Picture]:
        return connectivity_pictures(loaded, batch)


def sparsified(stages: list[Stage], distill: list[Stage]) -> list[Stage]:
    """`stages`, the choice in force, and the training with it, if there is one."""
    return [*stages, SPARSIFY, *distill, *([RECALL] if distill else [])]


def _kept(layer: SelectiveAttention, tokens: int) -> tuple[int, int]:
    """The fewest and the most keys that a patch's query keeps, of random tokens."""
    draw = torch.Generator().manual_seed(0)
    place = next(layer.parameters()).device
    size = (ROWS, layer.num_heads, tokens, layer.head_dim)
    q, k = (torch.randn(size, generator=draw).to(place) for _ in range(2))
    counts = layer.connectivity(q, k).sum(-1)
    return int(counts.min()), int(counts.max())
