"""Eq. (1): values, gradients, storage, merging and cutting."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossamer.compression.dsee.adapter import AdaptedLinear, SideBranchLinear, deployed
from gossamer.sparsity import masks

IN, OUT, RANK, N, SCALE = 10, 7, 3, 9, 2.0


def adapted(seed: int = 0, dtype=torch.float32, bias: bool = True, residual: int = N):
    """An adapted layer with every part of the update non-zero, and half of W masked."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=dtype)

    linear = nn.Linear(IN, OUT, bias=bias, dtype=dtype)
    linear.weight.data.copy_(normal(OUT, IN))
    module = AdaptedLinear.of(linear, RANK, residual, SCALE)
    with torch.no_grad():
        module.U.copy_(normal(OUT, RANK))
        module.V.copy_(normal(RANK, IN))
        module.values.copy_(normal(residual))
        module.indices.copy_(torch.randperm(OUT * IN, generator=draw)[:residual].sort().values)
    masks.attach(module, torch.rand(OUT, IN, generator=draw) < 0.5)
    masks.apply(module)
    return module, normal(5, 4, IN)


def dense_residual(module) -> torch.Tensor:
    """Ω ⊙ S2 as the dense matrix that the paper writes."""
    matrix = torch.zeros(module.weight.numel(), dtype=module.values.dtype)
    matrix[module.indices] = module.values.detach()
    return matrix.view(module.weight.shape)


def test_without_an_update_the_layer_equals_the_linear_one_bit_for_bit():  # T1
    linear = nn.Linear(384, 256)
    x = torch.randn(3, 5, 384)
    expected = linear(x)
    module = AdaptedLinear.of(linear, 16, 64, 2.0)
    nn.init.normal_(module.V, std=0.02)
    assert torch.equal(module(x), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_output_is_equation_1_and_both_deployments_equal_it(bias):  # T2
    module, x = adapted(bias=bias)
    whole = module.weight + SCALE * (module.U @ module.V + dense_residual(module))
    expected = F.linear(x, whole, module.bias)
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)
    for merge in (True, False):
        torch.testing.assert_close(deployed(module, merge=merge)(x), expected, atol=1e-5, rtol=1e-5)


def test_merging_any_number_of_times_leaves_the_frozen_weight_exactly_as_it_was():  # T2
    module, _ = adapted()
    before = module.weight.clone()
    first, second = deployed(module, merge=True), deployed(module, merge=True)
    assert torch.equal(module.weight, before)
    assert torch.equal(first.weight, second.weight)
    first.weight.data.zero_()
    assert torch.equal(module.weight, before)


def test_scale_multiplies_both_branches():  # T3
    module, x = adapted(dtype=torch.float64)
    frozen = F.linear(x, module.weight, module.bias)
    once, update = module(x) - frozen, module.update()
    module.scale *= 2
    assert torch.equal(module.update(), 2 * update)
    torch.testing.assert_close(module(x) - frozen, 2 * once)
    module.U.data.zero_()  # of S2 alone, too
    torch.testing.assert_close(module(x) - frozen, 2 * SCALE * F.linear(x, dense_residual(module)))


def test_gradients_of_equation_1_pass_gradcheck_and_the_frozen_weight_gets_none():  # T8
    module, x = adapted(dtype=torch.float64)
    x.requires_grad_(True)

    def function(x, U, V, values):
        tensors = {"U": U, "V": V, "values": values}
        return torch.func.functional_call(module, tensors, (x,))

    inputs = (x, module.U, module.V, module.values)
    assert torch.autograd.gradcheck(function, inputs)
    module(x).sum().backward()
    assert module.weight.grad is None and module.bias.grad is None
    assert not module.weight.requires_grad and not module.bias.requires_grad


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), residual=st.integers(0, OUT * IN))
def test_sparse_storage_gives_the_outputs_and_gradients_of_a_dense_masked_residual(seed, residual):
    module, x = adapted(seed, torch.float64, residual=residual)  # T9
    weight = torch.randn(5, 4, OUT, dtype=torch.float64)
    S2 = dense_residual(module).requires_grad_(True)
    U, V = module.U.detach().requires_grad_(True), module.V.detach().requires_grad_(True)
    support = torch.zeros(OUT * IN, dtype=torch.float64)
    support[module.indices] = 1
    x2 = x.clone().requires_grad_(True)
    whole = module.weight + SCALE * (U @ V + support.view(OUT, IN) * S2)
    expected = F.linear(x2, whole, module.bias)
    (expected * weight).sum().backward()
    x.requires_grad_(True)
    y = module(x)
    (y * weight).sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(module.values.grad, S2.grad.flatten()[module.indices])
    torch.testing.assert_close(module.U.grad, U.grad)
    torch.testing.assert_close(module.V.grad, V.grad)
    torch.testing.assert_close(x.grad, x2.grad)


def test_adam_keeps_moments_of_n_values_and_not_of_a_matrix():  # T9
    module, x = adapted()
    parameters = [p for p in module.parameters() if p.requires_grad]
    assert sum(p.numel() for p in parameters) == RANK * (IN + OUT) + N
    optimizer = torch.optim.AdamW(parameters)
    module(x).sum().backward()
    optimizer.step()
    assert optimizer.state[module.values]["exp_avg"].numel() == N


def test_under_autocast_the_product_is_bfloat16_and_the_gradients_are_float32():
    module, x = adapted()
    reference, x2 = module(x), x.clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x2)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), reference, atol=0.15, rtol=0.05)
    y.sum().backward()
    got = {name: getattr(module, name).grad for name in ("U", "V", "values")}
    assert all(grad.dtype == torch.float32 for grad in got.values())
    assert x2.grad.dtype == torch.float32
    module.zero_grad()
    module(x).sum().backward()
    for name, grad in got.items():
        exact = getattr(module, name).grad
        assert (grad - exact).norm() < 0.03 * exact.norm(), name


def test_a_bfloat16_weight_keeps_its_update_in_float32():
    linear = nn.Linear(IN, OUT, dtype=torch.bfloat16)
    module = AdaptedLinear.of(linear, RANK, N, SCALE)
    nn.init.normal_(module.U)
    nn.init.normal_(module.V)
    assert {module.U.dtype, module.V.dtype, module.values.dtype} == {torch.float32}
    x = torch.randn(2, IN, dtype=torch.bfloat16)
    assert module(x).dtype == torch.bfloat16
    for merge in (True, False):
        layer = deployed(module, merge=merge)
        assert layer.weight.dtype == torch.bfloat16
        torch.testing.assert_close(layer(x), module(x), atol=0.1, rtol=0.05)


def test_a_side_branch_layer_is_rebuilt_from_its_arguments_and_its_state():
    module, x = adapted()
    side = deployed(module, merge=False)
    with torch.device("meta"):
        again = SideBranchLinear(**side.arguments)
    again.load_state_dict(side.state_dict(), strict=True, assign=True)
    assert torch.equal(again(x), side(x))
    assert type(side) is SideBranchLinear
    assert not any(p.requires_grad for p in side.parameters())


@pytest.mark.parametrize("kind", ["training", "side branches"])
def test_cutting_rows_and_columns_equals_cutting_the_merged_weight(kind):
    module, x = adapted(residual=35)
    layer = module if kind == "training" else deployed(module, merge=False)
    rows, columns = torch.tensor([6, 0, 3]), torch.tensor([8, 1, 2, 9])
    whole, bias = module.merged(), module.bias.clone()
    layer.cut_rows(rows)
    assert layer.V.shape == (RANK, IN)  # the input side stays
    layer.cut_columns(columns)
    torch.testing.assert_close(layer.merged(), whole[rows][:, columns])
    y = layer(x[..., columns])
    torch.testing.assert_close(y, F.linear(x[..., columns], whole[rows][:, columns], bias[rows]))
    assert 0 < layer.values.numel() == layer.indices.numel() < 35
    assert layer.arguments["residual"] == layer.values.numel()
    assert (layer.in_features, layer.out_features) == (4, 3)


def test_the_merged_layer_is_a_plain_one_that_remembers_how_sparse_the_frozen_weight_was():  # T14
    module, _ = adapted()
    merged = deployed(module, merge=True)
    assert type(merged) is nn.Linear
    assert merged.frozen_density == int((module.weight != 0).sum()) / (OUT * IN) < 1
    assert int((merged.weight == 0).sum()) == 0
