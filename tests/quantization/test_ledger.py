"""The ledger row of a packed operation."""

import torch
from torch import nn

from gossamer.measure.size import bits_per_weight
from gossamer.quantization.fake import fake_quantized
from gossamer.quantization.ledger import packed_fact
from gossamer.sparsity import masks
from gossamer.sparsity.patterns import parse


def packed(layer, bits, pattern=None):
    fake = fake_quantized(layer, bits)
    if pattern:
        weight = fake.weight.detach()
        masks.attach(fake, parse(pattern).mask(weight.abs().flatten(1), None).reshape(weight.shape))
        masks.apply(fake)
    fake.input_amax.fill_(1.0)
    return fake.packed()


def test_a_packed_layers_row_is_what_is_stored():
    torch.manual_seed(0)
    layer = packed(nn.Linear(64, 16), 8, "2:4")
    fact = packed_fact("up", layer, target=0.5)
    assert (fact.shape, fact.pattern, fact.target) == ((16, 64), "2:4", 0.5)
    assert fact.operands == (8, 8) and fact.changed and fact.skipped is None
    assert fact.macs == int(layer.weight.count_nonzero()) == round(fact.density * 1024)
    assert 0.45 < fact.density <= 0.5
    # 20 bits for four weights, 16 scales and the input's over all of them
    assert fact.bits == 5 + 32 * 17 / 1024
    assert bits_per_weight(nn.ModuleDict({"up": layer}), [fact]) == fact.bits


def test_a_convolutions_row_has_the_full_shape():
    torch.manual_seed(0)
    fact = packed_fact("patch", packed(nn.Conv2d(3, 8, 4, 4), 4, "pairwise:4:8"))
    assert fact.shape == (8, 3, 4, 4) and fact.pattern == "pairwise:4:8"
    assert fact.bits == 2.5 + 32 * 9 / 384 and fact.operands == (4, 4)
    assert 0.2 < fact.density < 0.5  # quantisation to 15 levels makes zeros of its own
