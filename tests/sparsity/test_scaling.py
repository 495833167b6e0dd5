"""Weights scaled block by block (T13 and T14 of CAST's notes)."""

import pytest
import torch
from torch import nn

from gossamer.errors import StageError
from gossamer.sparsity.patterns import parse
from gossamer.sparsity.scaling import ScaledLinear


def layer(blocks: int = 2, bias: bool = True, width: int = 16) -> ScaledLinear:
    torch.manual_seed(0)
    return ScaledLinear(nn.Linear(width, 6, bias=bias).double(), blocks)


X = torch.randn(5, 16, generator=torch.Generator().manual_seed(1), dtype=torch.double)


@pytest.mark.parametrize("bias", [True, False])
def test_scales_of_one_change_no_bit(bias):
    """T13"""
    scaled = layer(bias=bias)
    assert torch.equal(scaled(X), nn.functional.linear(X, scaled.weight, scaled.bias))
    assert scaled.folded().bias is scaled.bias and (scaled.bias is not None) == bias


def test_a_scale_multiplies_a_block_of_consecutive_inputs_of_one_row():
    """T13"""
    linear = nn.Linear(8, 2, bias=False)
    nn.init.ones_(linear.weight)
    scaled = ScaledLinear(linear, 2)
    with torch.no_grad():
        scaled.scale.copy_(torch.tensor([[2.0, 3.0], [5.0, 7.0]]))
    assert scaled.scaled().tolist() == [[2.0] * 4 + [3.0] * 4, [5.0] * 4 + [7.0] * 4]


def test_a_scales_gradient_is_the_sum_over_its_block():
    """T13"""
    scaled = layer()
    with torch.no_grad():
        scaled.scale.normal_()
    (scaled(X) ** 3).sum().backward()
    weight = scaled.scaled().detach().requires_grad_()
    (nn.functional.linear(X, weight, scaled.bias.detach()) ** 3).sum().backward()
    by_block = (weight.grad * scaled.weight).unflatten(1, (2, 8)).sum(-1)
    assert torch.allclose(scaled.scale.grad, by_block)
    by_entry = weight.grad * scaled.scale.repeat_interleave(8, dim=1)
    assert torch.allclose(scaled.weight.grad, by_entry)


@torch.no_grad()
def test_pruning_then_folding_is_folding_then_pruning():
    """T14, and T2: a mask does not see the scales, for each group lies in one block."""
    scaled = layer()
    scaled.scale.uniform_(0.5, 2)
    mask = parse("2:4").mask(scaled.weight.abs(), None)
    folded_first = scaled.scaled() * parse("2:4").mask(scaled.scaled().abs(), None)
    scaled.weight.mul_(mask)
    expected = scaled(X)
    plain = scaled.folded()
    assert type(plain) is nn.Linear and (plain.in_features, plain.out_features) == (16, 6)
    assert torch.equal(plain(X), expected)
    assert torch.equal(plain.weight, folded_first)
    assert (plain.weight != 0).reshape(-1, 4).sum(1).tolist() == [2] * 24


@torch.no_grad()
def test_a_scale_that_loses_weights_is_an_error():
    """T14: A = 0 would look like more sparsity."""
    scaled = layer()
    scaled.scale[1, 0] = 0
    with pytest.raises(StageError, match="8 weights became 0 through their scales"):
        scaled.folded()


def test_blocks_must_divide_the_row():
    with pytest.raises(ValueError, match="3 blocks do not divide 16"):
        layer(blocks=3)
