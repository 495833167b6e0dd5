"""Packed layers count as the weights that they stand for, and take the bytes that they take."""

import torch
from torch import nn

from gossamer.measure import memory, size
from gossamer.measure.compute import macs, macs_nonzero
from gossamer.quantization.fake import fake_quantized


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 2, stride=2)
        self.up = nn.Linear(8, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x):  # (B, 1, 4, 4)
        return self.norm(self.up(self.patch(x).flatten(2).transpose(1, 2)))


def models():
    torch.manual_seed(0)
    dense, packed = Small(), Small()
    packed.load_state_dict(dense.state_dict())
    with torch.no_grad():
        packed.up.weight.reshape(-1, 4)[:, :2] = 0
    for name, bits in (("patch", 4), ("up", 8)):
        fake = fake_quantized(packed.get_submodule(name), bits)
        fake.input_amax.fill_(3.0)
        setattr(packed, name, fake.packed())
    return dense, packed


def test_parameters_are_those_the_integers_stand_for():
    dense, packed = models()
    assert size.parameters(packed) == size.parameters(dense) == 32 + 8 + 128 + 16 + 32
    lost = 32 + 128 - sum(int(layer.weight.count_nonzero()) for layer in (packed.patch, packed.up))
    assert size.nonzero_parameters(packed) == size.nonzero_parameters(dense) - lost
    assert size.nonzero_parameters(dense) == 216 - 16 and lost >= 64  # the norm's shift is zero


def test_macs_are_the_dense_models_and_their_zeros_are_seen():
    dense, packed = models()
    x = {"x": torch.randn(3, 1, 4, 4)}
    assert macs(packed, x) == macs(dense, x)
    assert macs(packed.to("meta"), x).total == macs(dense, x).total
    _, packed = models()
    zeros = [int((layer.weight == 0).sum()) for layer in (packed.patch, packed.up)]
    assert zeros[1] >= 64
    assert macs_nonzero(packed, x) == macs(dense, x).total - 3 * 4 * sum(zeros)


def test_memory_holds_the_integers_and_the_weights_once_they_are_unpacked():
    _, packed = models()
    stored = sum(t.numel() * t.element_size() for t in packed.state_dict().values())
    assert memory.model_bytes(packed) == stored
    packed(torch.randn(1, 1, 4, 4))
    assert memory.model_bytes(packed) == stored + 4 * (32 + 128)
