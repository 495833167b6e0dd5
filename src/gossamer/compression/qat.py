"""Quantisation-aware training: forward sees integers, the gradient passes straight through.

    x̂ = s · clamp(round(x / s))        ∂x̂/∂x := 1 inside the range, 0 outside

Jacob et al., CVPR 2018 (arXiv:1712.05877), in NVIDIA's convention (Wu et al., 2020,
arXiv:2004.09602): symmetric, weights with a scale for each output, which follows the weights;
inputs with one for each tensor, which stays as it was calibrated. The loss is that of GPUSQ-ViT's
second stage (Yu et al., CVPR 2023, arXiv:2305.10727) without its sparse-distillation-aware factors:
labels, logits and feature maps, taught by the float model that this method was given.

So `[nm_prune,qat]` is GPUSQ-ViT without those factors, and with `beta=0 gamma=0` this is plain QAT.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from gossamer import contract
from gossamer.contract import Stage
from gossamer.distillation import Levels
from gossamer.models.distilled import Distilled
from gossamer.models.quantized import CALIBRATE, Quantized
from gossamer.quantization.observers import Kind


class Qat(Distilled, Quantized):
    """Calibrate, then train on the grid.

    Args:
        bits: 8 or 4, of weights and inputs.
        calibration, percentile, samples, quantize: as in `ptq`.
        alpha, beta, gamma: weights of the labels', the logits' and the feature maps' terms.
        temperature: of the logits' term.
        hard_target: gt, the labels; teacher, the teacher's class, and no label is read.
        features: how many of the model's last feature maps are compared.
        lr: learning rate; None: the trainer's.
    """

    start: contract.Start = "trained"
    produces = frozenset({"quantized weights"})
    keeps = frozenset({"sparse weights"})  # a zero is on every grid, and the engine holds it

    def __init__(
        self,
        bits: int = 8,
        calibration: Literal["max", "percentile", "entropy"] = "percentile",
        percentile: float = 99.99,
        samples: int = 512,
        quantize: tuple[str, ...] | None = None,
        alpha: float = 1.0,
        beta: float = 10.0,
        gamma: float = 5.0,
        temperature: float = 1.0,
        hard_target: Literal["gt", "teacher"] = "gt",
        features: int = 2,
        lr: float | None = 1e-5,
    ) -> None:
        self.bits = bits
        self.calibration: Kind = calibration
        self.percentile = percentile
        self.samples = samples
        self.quantize = None if quantize is None else tuple(quantize)
        self.levels = Levels(alpha, beta, gamma, temperature, hard_target)
        self.features = features
        self.lr = lr

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        return [
            *self.quantization_problems(model, data),
            *self.distillation_problems(model, data),
        ]

    def stages(self, training: list[Stage]) -> list[Stage]:
        trained = [self.taught(stage, "before", self.lr) for stage in training if stage.share]
        return [*(stage for stage in training if not stage.share), CALIBRATE, *trained]
