"""Masked forward, straight-through backward, and the decay of what is masked."""

import copy

import pytest
import torch
from torch import nn

from gossamer.sparsity.decayed import DecayedAdamW
from gossamer.sparsity.patterns import parse
from gossamer.sparsity.straight_through import StraightThroughLinear, figures

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def layer(decay: float = 0.0) -> StraightThroughLinear:
    torch.manual_seed(0)
    made = StraightThroughLinear(nn.Linear(8, 4).double(), parse("2:4"), None, decay)
    made.renew(first=True)
    return made


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_all_weights_get_the_masked_ones_gradient_and_masked_ones_are_pulled(decay):
    masked = layer(decay)
    (masked(X) ** 3).sum().backward()
    weight = (masked.weight * masked.weight_mask).detach().requires_grad_()
    (nn.functional.linear(X, weight, masked.bias.detach()) ** 3).sum().backward()
    expected = weight.grad + decay * (~masked.weight_mask) * masked.weight.detach()
    assert torch.allclose(masked.weight.grad, expected)
    assert (masked.weight.grad[~masked.weight_mask] != 0).all()


def test_until_its_mask_is_made_it_is_the_layer_that_it_replaced():
    linear = nn.Linear(8, 4).double()
    masked = StraightThroughLinear(linear, parse("2:4"))
    assert torch.equal(masked(X), linear(X))


@torch.no_grad()
def test_baking_keeps_the_function_and_leaves_exact_zeros():
    masked = layer()
    before = masked(X)
    plain = masked.baked()
    assert type(plain) is nn.Linear and torch.equal(plain(X), before)
    assert torch.equal(plain.weight != 0, masked.weight_mask)


@torch.no_grad()
def test_changed_bits_are_counted_from_the_second_mask_on():
    masked = layer()
    assert int(masked.flips) == int(masked.flips_so_far) == 0
    masked.weight.copy_(torch.where(masked.weight_mask, 0.0, 1.0))  # the masks are turned round
    masked.renew()
    assert int(masked.flips) == 32
    masked.renew()
    seen = figures([masked])
    assert (seen["flips"], seen["flip_share"], seen["flips_so_far"]) == (0, 0, 32)
    assert seen["sparse_weight_ratio"] == 1


@torch.no_grad()
def test_an_unstructured_mask_keeps_as_many_as_it_was_told():
    masked = StraightThroughLinear(nn.Linear(8, 4), parse("unstructured"), keep=5)
    masked.renew(first=True)
    assert int(masked.weight_mask.sum()) == 5


def walk(optimizer, parameter, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        parameter.grad = torch.randn(4, 8, generator=generator, dtype=parameter.dtype)
        optimizer.step()


def decayed(parameter, **changes) -> DecayedAdamW:
    settings = {"lr": 1e-2, "decay": 0.5, "ramp": 10, "refresh": 4, **changes}
    return DecayedAdamW([{"params": [parameter], "sparse": True}], **settings)


def test_the_decay_joins_the_gradient_and_its_size_rises_to_the_end_of_the_ramp():
    ours, theirs = (nn.Parameter(layer().weight.detach().clone()) for _ in range(2))
    optimizer = decayed(ours)
    adam = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(30):
        if step % 4 == 0:
            masked = ~parse("2:4").mask(theirs.detach().abs(), None)
        rate = 0.5 * min(step / 10, 1)
        assert optimizer.rate(step) == pytest.approx(rate)
        walk(optimizer, ours, 1, first=step)
        theirs.grad = torch.randn(
            4, 8, generator=torch.Generator().manual_seed(step), dtype=torch.double
        )
        theirs.grad += rate * masked * theirs.detach()
        adam.step()
        assert torch.allclose(ours, theirs, rtol=1e-12)
    assert decayed(ours, ramp=0).rate(0) == 0.5


def test_parameters_beside_them_get_plain_adamw():
    ours, theirs = (nn.Parameter(layer().weight.detach().clone()) for _ in range(2))
    walk(DecayedAdamW([ours], 1e-2, decay=9.0, ramp=0), ours, 5)
    walk(torch.optim.AdamW([theirs], 1e-2, (0.9, 0.95), weight_decay=0.0), theirs, 5)
    assert torch.equal(ours, theirs)


def test_a_saved_state_goes_on_bit_by_bit(tmp_path):
    one = nn.Parameter(layer().weight.detach().float())
    optimizer = decayed(one)
    walk(optimizer, one, 7)
    other = copy.deepcopy(one)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    walk(optimizer, one, 6, first=7)
    again = decayed(other)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    walk(again, other, 6, first=7)
    assert torch.equal(one, other)
    assert torch.equal(optimizer.state[one]["masked"], again.state[other]["masked"])
