"""A small vision transformer of timm, and what quantisation would leave of it."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from gossamer.quantization.fake import fake_quantized
from gossamer.sparsity.patterns import parse

SHAPE = (3, 16, 16)


def tiny(depth: int = 2) -> nn.Module:
    """16 x 16 pixels, patches of 4, 32 wide, 5 classes; biases and norms that are not trivial."""
    torch.manual_seed(0)
    model = VisionTransformer(16, 4, 3, 5, embed_dim=32, depth=depth, num_heads=2)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim == 1:
                value += 0.1 * torch.randn_like(value)
    return model.eval().requires_grad_(False)


def images(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(seed))


def compressible(model: nn.Module) -> dict[str, nn.Module]:
    """The blocks' linear layers and the patch embedding."""
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.Linear) and "blocks" in path)
    }


def quantized(model: nn.Module, bits: int = 8, pattern: str | None = None) -> nn.Module:
    """The model with packed layers in the place of the compressible ones, calibrated by the largest
    input of sixteen images; in place."""
    largest: dict[str, float] = {}
    layers = compressible(model)

    def watch(path):
        def see(layer, given):
            largest[path] = float(given[0].abs().max())

        return see

    hooks = [layer.register_forward_pre_hook(watch(path)) for path, layer in layers.items()]
    model(images(16))
    for hook in hooks:
        hook.remove()
    for path, layer in layers.items():
        if pattern:
            weight = layer.weight.flatten(1)
            weight *= parse(pattern).mask(weight.abs(), None)
        fake = fake_quantized(layer, bits)
        fake.input_amax.fill_(largest[path])
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, fake.packed())
    return model.eval()
