"""LoRA: freeze the pretrained weights and learn a low-rank update beside some of them.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen: LoRA: Low-rank adaptation of large language
models, 2021. Equation 3, h = W₀x + (α/r)·BAx, with B (out, r) = 0 and A (r, in) drawn at random, so
that training starts from the pretrained function; the paper's experiments adapt the query and value
projections (section 5). For inference W = W₀ + (α/r)·BA is formed once, and nothing is left of the
adapters (section 4.1).

The adapters are PEFT's. What differs: PEFT draws A when it injects the adapters; here injection
draws nothing and a one-shot stage draws every A from a generator of its own, from the same
distribution as PEFT (Kaiming uniform with a = √5, where the paper says Gaussian), so that a run can
be resumed and a change of `roles` does not change another layer's draw.

Merging adds a dense BA to W₀ and would fill the zeros of an earlier pruning: LoRA keeps no "sparse
weights", and so `[magnitude,lora]` is refused where `[lora,magnitude]` is fine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.models.parts import body_linears, parts_of
from gossamer.models.surgery import replace_module
from gossamer.sparsity import ledger

ADAPTER = "default"  # PEFT's name for the one adapter of a layer


class Lora(contract.Method):
    """Low-rank adaptation of the body's linear layers of some roles; the head trains as well.

    Args:
        rank: r, the rank of the update.
        alpha: α; the update is scaled by α / r.
        dropout: of the adapters' input, while training.
        roles: adapt the layers of these roles (`models/parts.py`).
        lr: learning rate of adapters and head; None: what the task or the trainer says.
    """

    start: contract.Start = "pretrained"
    keeps: frozenset[str] = frozenset()

    def __init__(
        self,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        roles: tuple[str, ...] = ("query", "value"),
        lr: float | None = 1e-3,
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.roles = tuple(roles)
        self.lr = lr

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        problems = []
        if self.rank < 1:
            problems.append(f"rank={self.rank}: a whole number from 1, e.g. 16")
        if self.alpha <= 0:
            problems.append(f"alpha={self.alpha}: greater than 0, e.g. 32")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout={self.dropout}: from 0 to below 1, e.g. 0.1")
        try:
            layers = body_linears(model, self.roles)
        except ValueError as error:
            return [*problems, f"roles={self.roles}: {error}"]
        if not layers:
            known = ", ".join(sorted(set(parts_of(model).linear.values())))
            problems.append(
                f"roles={self.roles}: no linear layer of this model has such a role; it has {known}"
            )
        for name, layer in layers.items():
            full = min(layer.weight.shape)
            if self.rank > full:
                problems.append(
                    f"rank={self.rank}: {name} is {tuple(layer.weight.shape)}, "
                    f"whose rank is at most {full}; set rank={full} or less"
                )
        return problems

    def stages(self, training: list[Stage]) -> list[Stage]:
        # the task's own stages, so that a task that trains in two trains its adapters in two
        tuning = [replace(s, lr=s.lr if self.lr is None else self.lr) for s in training]
        return [Stage("init", share=0.0), *tuning]

    def prepare(self, model: nn.Module) -> None:
        """Put PEFT's adapters in place, all zero: the function does not change."""
        paths = list(body_linears(model, self.roles))
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules="|".join(re.escape(path) for path in paths),  # a full match
            init_lora_weights=False,
        )
        # "low_cpu_mem_usage" makes the adapters on the meta device, where nothing is drawn
        peft.inject_adapter_in_model(config, model, ADAPTER, low_cpu_mem_usage=True)
        del model.peft_config  # what PEFT leaves on the model is not part of the result
        for layer in adapted(model).values():
            device = layer.get_base_layer().weight.device
            for matrix in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]):
                matrix.to_empty(device=device)
                nn.init.zeros_(matrix.weight)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        if stage.name != "init":
            return
        for name, layer in adapted(model).items():
            if name not in done:
                a = torch.empty(layer.lora_A[ADAPTER].weight.shape)  # (r, in)
                nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=stage.generator("lora", name))
                with torch.no_grad():
                    layer.lora_A[ADAPTER].weight.copy_(a)
                yield name

    def enter(self, stage: Stage, model: nn.Module) -> None:
        """Freeze all but the adapters and the head. Never unfreezes: the task may freeze more."""
        trains = [model.get_submodule(path) for path in parts_of(model).head]
        for layer in adapted(model).values():
            trains += [layer.lora_A, layer.lora_B]
        kept = {id(parameter) for module in trains for parameter in module.parameters()}
        for parameter in model.parameters():
            if id(parameter) not in kept:
                parameter.requires_grad_(False)

    def finalize(self, model: nn.Module) -> None:
        """W ← W₀ + (α/r)·BA, in plain linear layers."""
        for name, layer in adapted(model).items():
            layer.merge(safe_merge=True)
            replace_module(model, name, layer.get_base_layer())

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        left = [n for n, module in loaded.named_modules() if isinstance(module, BaseTunerLayer)]
        merged = body_linears(loaded, self.roles)
        return [
            Check(
                "adapters merged",
                not left,
                f"{len(left)} adapters left, {len(merged)} layers adapted",
            )
        ]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        adapted_paths = body_linears(loaded, self.roles)
        facts = []
        for name, layer in body_linears(loaded).items():
            if name in adapted_paths:
                facts.append(ledger.fact(name, layer.weight, f"low-rank {self.rank} merged"))
            else:
                role = parts_of(loaded).linear[name]
                facts.append(ledger.fact(name, layer.weight, skipped=f"{role} is not in roles"))
        return facts


def adapted(model: nn.Module) -> dict[str, LoraLayer]:
    """The layers that carry an adapter, by path, in execution order."""
    return {
        name: layer for name, layer in body_linears(model).items() if isinstance(layer, LoraLayer)
    }
