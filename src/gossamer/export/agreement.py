"""How near another runtime must come to torch, and whether it does.

Two runtimes add in different orders, so their sums differ in the last digits. In a float model the
logits then differ in the last digits too. A quantised one rounds its activations between its
layers, and one that lies at the edge of a step falls to one side here and to the other there: a
whole step of difference, which the next layers carry on and round again. How much comes out is a
property of the model, and is measured on it: torch's own logits once more, with noise of NOISE,
some ten times a sum's rounding, on the output of each quantised layer. A runtime may differ by
FACTOR times what that changes. A wrong scale, axis or bias is far outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gossamer.contract import Check
from gossamer.quantization.packed import Packed

FLOAT = 1e-4  # of the largest logit: what the order of sums may change
NOISE = 1e-5  # relative
FACTOR = 2.0


@torch.inference_mode()
def agreement(
    name: str, model: nn.Module, other: Callable[..., Tensor], inputs: Mapping[str, Tensor]
) -> Check:
    """Whether `other(**inputs)` is `model(**inputs)`, logits (B, classes), to the tolerance of the
    model."""
    told = model(**inputs)
    allowed = tolerance(model, inputs, told)
    heard = other(**inputs)
    apart = float((told - heard).abs().max())
    same = int((told.argmax(-1) == heard.argmax(-1)).sum())
    return Check(
        name,
        apart <= allowed,
        f"largest difference {apart:.2g} of logits up to {float(told.abs().max()):.2g} "
        f"({allowed:.2g} allowed), {same} of {len(told)} predictions the same",
    )


@torch.inference_mode()
def tolerance(model: nn.Module, inputs: Mapping[str, Tensor], told: Tensor) -> float:
    """The difference from the logits `told` that another runtime may have."""
    generator = torch.Generator().manual_seed(0)

    def disturb(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        noise = torch.empty_like(output).uniform_(-NOISE, NOISE, generator=generator)
        return output * (1 + noise)

    layers = [layer for layer in model.modules() if isinstance(layer, Packed)]
    hooks = [layer.register_forward_hook(disturb) for layer in layers]
    try:
        own = float((model(**inputs) - told).abs().max()) if layers else 0.0
    finally:
        for hook in hooks:
            hook.remove()
    return FACTOR * own + FLOAT * float(told.abs().max())
