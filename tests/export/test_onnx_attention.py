"""Attention with chosen keys is in the ONNX file, map and all, whatever its kernel in torch."""

import pytest
import torch
from torch import nn

from gossamer.export.onnx import Onnx
from gossamer.measure.onnx_runtime import Session
from gossamer.models.attention import attentions, selective
from gossamer.sparsity.attention import top_keys, top_tiles
from tests.models.vision import built, pictures

TOKENS = 17


class Fixed(nn.Module):
    """The same map for every picture."""

    def __init__(self) -> None:
        super().__init__()
        scores = torch.rand(1, 2, TOKENS - 1, TOKENS, generator=torch.Generator().manual_seed(3))
        self.register_buffer("rows", top_keys(scores, 3))

    def forward(self, q, k, positions):
        return self.rows.expand(q.shape[0], -1, -1, -1)


class Largest(nn.Module):
    """Of each picture its own."""

    def forward(self, q, k, positions):
        return top_keys(q[:, :, 1:] @ -k.transpose(-2, -1), 3)


class Tiles(nn.Module):
    def forward(self, q, k, positions):
        return top_tiles(q[:, :, 1:] @ -k.transpose(-2, -1), 3, 4, prefix=1)


def chosen(connectivity, kernel="masked"):
    # two layers: the class token, whose row is dense, sees what the first one's map did to patches
    arguments = {"patch": 4, "width": 32, "layers": 2, "heads": 2}
    model = built(arguments).eval().requires_grad_(False)
    with torch.no_grad():  # attention that is not the mean of everything
        for block in model.blocks:
            block.attn.qkv.weight *= 12
    for attention in selective(model).values():
        attention.connectivity, attention.kernel = connectivity, kernel
    return model


@pytest.mark.parametrize(
    ("kind", "kernel"),
    [(Fixed, "masked"), (Largest, "masked"), (Tiles, "masked"), (Fixed, "gather"), (Fixed, "flex")],
)
def test_onnx_runtime_computes_the_masked_logits(kind, kernel, tmp_path):
    model = chosen(kind(), kernel)
    file = Onnx().write(model, {"x": pictures(2)}, tmp_path / "model.onnx")
    assert {each.kernel for each in attentions(model).values()} == {kernel}  # left as it was
    run = Session(file)
    dense = chosen(None)
    for rows in (1, 7):
        x = pictures(rows)
        masked = chosen(kind())(x)
        torch.testing.assert_close(run(x=x), masked, rtol=0, atol=1e-4)
        assert (masked - dense(x)).abs().max() > 2e-3  # so that a lost map would be noticed
