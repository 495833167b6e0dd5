"""What methods that quantise a model's operations have in common: which, their calibration, the
integers that are left, the ledger, and the proof that they are on the grid."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import nn

from gossamer import contract
from gossamer.contract import Batch, Check, Fact, Stage
from gossamer.models import calibration
from gossamer.models.inference import inference
from gossamer.models.parts import operations, parts_of
from gossamer.models.streaming import inputs_of_rows
from gossamer.models.surgery import replace_module
from gossamer.quantization.fake import fake_quantized
from gossamer.quantization.grid import largest
from gossamer.quantization.ledger import packed_fact
from gossamer.quantization.observers import KINDS, Kind, Observer, observer
from gossamer.quantization.packed import Packed
from gossamer.sparsity import ledger

CALIBRATE = Stage("calibrate", share=0.0)
BITS = (4, 8)


class Quantized(contract.Method):
    """Weights and inputs of the operations of the roles `quantize` (None: all) become integers of
    `bits` bits: weights with a scale for each output, from the weights as they are; inputs with one
    for all, from the range that `calibration` finds in `samples` rows of the training split."""

    bits: int
    quantize: tuple[str, ...] | None
    calibration: Kind
    percentile: float
    samples: int

    def quantized(self, model: nn.Module) -> dict[str, Any]:
        """The operations that become integers, by path, in execution order."""
        return operations(model, self.quantize)

    def quantization_problems(self, model: nn.Module, data: Any) -> list[str]:
        """What is wrong with the settings, one line each."""
        found = []
        if self.bits not in BITS:
            found.append(f"bits={self.bits}: choose {' or '.join(map(str, BITS))}")
        try:
            if not self.quantized(model):
                found.append(f"quantize={self.quantize}: no layer of this model has such a role")
        except ValueError as error:
            found.append(f"quantize={self.quantize}: {error}")
        if self.calibration not in KINDS:
            found.append(f"calibration={self.calibration}: choose {', '.join(KINDS)}")
        if not 50 < self.percentile <= 100:
            found.append(f"percentile={self.percentile}: above 50, to 100, e.g. 99.99")
        if getattr(model, "stream", False):
            found.append("model.stream=true: is calibrated as a whole; type model.stream=false")
        return found + calibration.sample_problems(self.samples, data)

    def parallel_requirements(self, strategy: Literal["ddp", "fsdp"]) -> list[str]:
        if strategy == "ddp":
            return []
        return ["bits: a scale is of a whole row, of which FSDP has parts; use trainer=ddp"]

    def prepare(self, model: nn.Module) -> None:
        for path, layer in self.quantized(model).items():
            replace_module(model, path, fake_quantized(layer, self.bits))

    def on_grid(self, stage: Stage) -> bool:
        """Does the model compute with integers in this stage?"""
        return stage.share > 0

    def enter(self, stage: Stage, model: nn.Module) -> None:
        for layer in self.quantized(model).values():
            layer.active = self.on_grid(stage)

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        """ "calibrate": the range of every operation's inputs, from one pass of the float model."""
        if stage.name != CALIBRATE.name:
            return
        layers = self.quantized(model)
        if any(path not in done for path in layers):
            seen = self._observed(model, batches)
            for path, layer in layers.items():
                if path not in done:
                    layer.input_amax.copy_(seen[path].amax())
                    yield path
        for layer in layers.values():
            layer.active = True

    def _observed(self, model: nn.Module, batches: Iterable[Batch]) -> Mapping[str, Observer]:
        seen = {
            path: observer(self.calibration, self.bits, self.percentile)
            for path in self.quantized(model)
        }
        with ExitStack() as hooks, inference(model):
            for path, layer in self.quantized(model).items():
                handle = layer.register_forward_pre_hook(
                    lambda module, inputs, path=path: seen[path].add(inputs[0])
                )
                hooks.callback(handle.remove)
            for inputs in inputs_of_rows(batches, self.samples):
                model(**inputs)
        return seen

    def finalize(self, model: nn.Module) -> None:
        for path, layer in self.quantized(model).items():
            replace_module(model, path, layer.packed())

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        return [on_grid(self.quantized(loaded), self.bits)]

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        mine = self.quantized(loaded)
        roles = parts_of(loaded).linear | parts_of(loaded).outer
        return [
            packed_fact(path, layer)
            if path in mine
            else ledger.fact(path, layer.weight, skipped=f"{roles[path]} is not in quantize")
            for path, layer in operations(loaded).items()
        ]


@torch.no_grad()
def on_grid(layers: Mapping[str, Packed], bits: int) -> Check:
    """Every weight is a whole number of its row's steps, and no further from 0 than q_max."""
    wrong = []
    for path, layer in layers.items():
        steps = layer.weight.flatten(1) / layer.scale[:, None]
        off = (steps - steps.round()).abs().max()
        if off > 1e-3 or steps.abs().max().round() > largest(bits):
            wrong.append(path)
    figure = f"integers from -{largest(bits)} to {largest(bits)} in {len(layers)} operations"
    figure += f"; {wrong[0]} has others" if wrong else ""
    return Check(f"weights on the INT{bits} grid", not wrong, figure)
