"""Verbs of the contract that several methods have alike: those that hold a mask which was made
once, and those that train through masked, straight-through layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from gossamer import contract
from gossamer.contract import Batch, Stage
from gossamer.models.parts import body_linears
from gossamer.models.surgery import replace_module
from gossamer.sparsity import masks


class HeldMasks(contract.Method):
    """Each of the body's linear layers of `roles` (None: all) gets a mask, once, in a stage of the
    method's own (`masks.attach`, `masks.apply`); it is held from there on."""

    roles: tuple[str, ...] | None

    def layers(self, model: nn.Module) -> dict[str, nn.Module]:
        """The layers to prune, by path, in execution order."""
        return body_linears(model, self.roles)

    def prepare(self, model: nn.Module) -> None:
        for layer in self.layers(model).values():
            masks.attach(layer)

    def after_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for layer in self.layers(model).values():
            masks.apply(layer)

    def finalize(self, model: nn.Module) -> None:
        for layer in self.layers(model).values():
            masks.remove(layer)


class StraightThrough(contract.Method):
    """`prepare` puts a `StraightThroughLinear` in the place of each of the body's linear layers of
    `roles` (None: all); its mask is made in a stage `mask`, again after every `refresh` steps, and
    baked in, in a stage `prune`, when the training is over."""

    roles: tuple[str, ...] | None
    refresh: int

    def layers(self, model: nn.Module) -> dict[str, Any]:
        """The layers that become sparse, by path, in execution order."""
        return body_linears(model, self.roles)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        """ "mask": the first mask, with which the model computes from here on. "prune": what is
        masked becomes 0, which no output shows."""
        for path, layer in self.layers(model).items():
            if path not in done and stage.name in ("mask", "prune"):
                layer.renew(first=True) if stage.name == "mask" else masks.apply(layer)
                yield path

    def after_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if step % self.refresh == 0:
            for layer in self.layers(model).values():
                layer.renew()

    def finalize(self, model: nn.Module) -> None:
        for path, layer in self.layers(model).items():
            replace_module(model, path, layer.baked())


def retrained(training: list[Stage], lr: float | None, *, teacher: bool = False) -> list[Stage]:
    """The task's stages, the trained ones at learning rate `lr` (None: their own) and, with
    `teacher`, taught by the run's starting weights."""
    return [
        replace(
            stage,
            teacher="start" if teacher else stage.teacher,
            lr=stage.lr if lr is None else lr,
        )
        if stage.share
        else stage
        for stage in training
    ]
