"""Small vision transformers, drawn or from a file, and pictures for them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gossamer.data.info import DataInfo
from gossamer.models.vit import Vit
from gossamer.seeds import drawing

INFO = DataInfo("image", ("no", "maybe", "yes"), {}, 0, ("accuracy",), "made up", image=(1, 16, 16))
IMAGENET = replace(INFO, classes=tuple(map(str, range(1000))), image=(3, 224, 224))
DEIT: dict[str, Any] = {
    "source": "deit_tiny_patch16_224",
    "patch": 4,
    "width": 32,
    "layers": 2,
    "heads": 4,
    "neurons": 49,  # 49 / 32 is a ratio that does not give 49 back in every arithmetic
}
SWIN: dict[str, Any] = {
    "source": "swin_tiny_patch4_window7_224",
    "patch": 2,
    "width": 16,
    "layers": (2, 1),
    "heads": (2, 4),
    "window": 4,
}
FAMILIES = {"deit": DEIT, "swin": SWIN}


def built(arguments: dict[str, Any], seed: int = 0, info: DataInfo = INFO) -> nn.Module:
    """A drawn model, or with `file` one that is read."""
    weights = "pretrained" if "file" in arguments else "init"
    with drawing(seed, "init"):
        return Vit(weights=weights, **arguments).build(info)


def randomised(model: nn.Module) -> nn.Module:
    """The same model with large random weights and biases (drawn biases are zero)."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def saved(path: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the same model with the weights of a file, which is written."""
    file = path / "weights.safetensors"
    save_file(randomised(built(arguments)).state_dict(), file)
    return {**arguments, "file": str(file)}


def pictures(rows: int = 3, info: DataInfo = INFO) -> Tensor:
    """(rows, channels, height, width)"""
    assert info.image is not None
    return torch.randn(rows, *info.image, generator=torch.Generator().manual_seed(1))
