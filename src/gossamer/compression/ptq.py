"""Post-training quantisation: integers without a training step.

The baseline of quantisation-aware training: ranges are calibrated on some rows of the training
split, weights are rounded to the nearest step. NVIDIA's convention, as TensorRT takes it (Wu et
al.: Integer quantization for deep learning inference, 2020, arXiv:2004.09602): symmetric, a scale
for each output of a weight and one for each input tensor, zero stays zero.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from gossamer import contract
from gossamer.contract import Stage
from gossamer.models.quantized import CALIBRATE, Quantized
from gossamer.quantization.observers import Kind


class Ptq(Quantized):
    """INT8 or INT4 weights and inputs, nothing trained.

    Args:
        bits: 8 or 4, of weights and inputs.
        calibration: max, percentile or entropy: how far a range reaches into what was seen.
        percentile: with calibration=percentile: this share of the inputs' sizes, in percent.
        samples: rows of the training split to calibrate on.
        quantize: operations of these roles; None: all.
    """

    start: contract.Start = "trained"
    produces = frozenset({"quantized weights"})
    keeps = frozenset({"sparse weights"})  # a zero is on every grid

    def __init__(
        self,
        bits: int = 8,
        calibration: Literal["max", "percentile", "entropy"] = "percentile",
        percentile: float = 99.99,
        samples: int = 512,
        quantize: tuple[str, ...] | None = None,
    ) -> None:
        self.bits = bits
        self.calibration: Kind = calibration
        self.percentile = percentile
        self.samples = samples
        self.quantize = None if quantize is None else tuple(quantize)

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        return self.quantization_problems(model, data)

    def parallel_requirements(self, strategy: Literal["ddp", "fsdp"]) -> list[str]:
        return []  # no stage of its own is trained

    def stages(self, training: list[Stage]) -> list[Stage]:
        return [*(stage for stage in training if not stage.share), CALIBRATE]
