"""SparseGPT's solver, in double precision, against the formulas of the Optimal Brain Surgeon."""

import logging

import pytest
import torch
from torch import Tensor

from gossamer.errors import StageError
from gossamer.sparsity import obs, scores
from gossamer.sparsity.obs import sparsegpt
from gossamer.sparsity.patterns import keep_top_of_rows, parse
from gossamer.sparsity.statistics import Hessian

UNSTRUCTURED, TWO_FOUR = parse("unstructured"), parse("2:4")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def correlated(tokens: int = 400, width: int = 16) -> Tensor:
    """(tokens, width) inputs whose features share a few causes and differ in size."""
    causes = drawn(tokens, 4, seed=1) @ drawn(4, width, seed=2)
    return (causes + 0.3 * drawn(tokens, width, seed=3)) * torch.linspace(0.3, 2, width)


def hessian_of(x: Tensor) -> Tensor:
    return 2 / len(x) * x.T @ x


def error(old: Tensor, new: Tensor, x: Tensor) -> float:
    """Mean squared error of the layer's outputs over the tokens, summed over the rows."""
    return float(((old - new) @ x.T).square().sum() / x.shape[0])


def reference(weight: Tensor, hessian: Tensor, mask: Tensor) -> Tensor:
    """A row at a time, a weight at a time: each that goes moves all that are still free by the
    closed form, with a fresh inverse of what is left of H."""
    new = weight.clone()
    for row, kept in zip(new, mask, strict=True):
        for q in range(len(row)):
            if not kept[q]:
                inverse = torch.linalg.inv(hessian[q:, q:])
                row[q:] -= row[q] / inverse[0, 0] * inverse[0]
                row[q] = 0
    return new


@pytest.mark.parametrize("q", [0, 3, 7])
def test_removing_one_column_costs_what_the_closed_form_says(q):
    """Taking w_q out raises the mean squared error by w_q² / (2 [H⁻¹]_qq), H being of the columns
    that may still move: q and those after it."""
    weight, x = drawn(5, 8), correlated(width=8)
    h = hessian_of(x)
    keep = torch.ones(5, 8, dtype=torch.bool)
    keep[:, q] = False
    new, mask = sparsegpt(weight, h, UNSTRUCTURED, 1 / 8, block=8, damping=0.0, keep=keep)
    assert torch.equal(mask, keep) and not new[:, q].any()
    inverse = torch.linalg.inv(h[q:, q:])
    moved = -weight[:, q, None] / inverse[0, 0] * inverse[0]
    torch.testing.assert_close(new[:, q:], weight[:, q:] + moved, rtol=1e-10, atol=1e-12)
    assert torch.equal(new[:, :q], weight[:, :q])
    cost = float((weight[:, q].square() / (2 * inverse[0, 0])).sum())
    assert error(weight, new, x) == pytest.approx(cost, rel=1e-10)


def test_the_first_column_taken_out_leaves_the_least_squares_optimum():
    """…which no other choice of the free weights improves: the gradient there is zero."""
    weight, x = drawn(3, 8), correlated(width=8)
    keep = torch.ones(3, 8, dtype=torch.bool)
    keep[:, 0] = False
    new, _ = sparsegpt(weight, hessian_of(x), UNSTRUCTURED, 1 / 8, damping=0.0, keep=keep)
    gradient = (new - weight) @ hessian_of(x)
    assert gradient[:, 1:].abs().max() < 1e-10 < gradient[:, 0].abs().min()


def test_the_cheapest_weight_goes_by_the_saliency_of_the_columns_left():
    weight, h = drawn(1, 12), hessian_of(correlated(width=12))
    cost = [float(weight[0, q] ** 2 / torch.linalg.inv(h[q:, q:])[0, 0]) for q in range(12)]
    _, mask = sparsegpt(weight, h, UNSTRUCTURED, 1 / 12, damping=0.0)
    assert (~mask).nonzero().tolist() == [[0, cost.index(min(cost))]]


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "1:4", "3:8"])
def test_every_row_is_what_one_removal_after_another_gives(pattern):
    weight, h = drawn(6, 16), hessian_of(correlated())
    new, mask = sparsegpt(weight, h, parse(pattern), 0.5, block=8, damping=0.0)
    torch.testing.assert_close(new, reference(weight, h, mask), rtol=1e-9, atol=1e-10)


def test_groups_are_chosen_with_the_weights_as_they_are_when_the_group_is_reached():
    weight, h = drawn(6, 16), hessian_of(correlated())
    _, mask = sparsegpt(weight, h, TWO_FOUR, 0.5, damping=0.0)
    behind = torch.ones_like(mask)
    changed = False
    for start in range(0, 16, 4):
        now = reference(weight, h, behind)
        inverse = [torch.linalg.inv(h[q:, q:])[0, 0] for q in range(start, start + 4)]
        score = now[:, start : start + 4] ** 2 / torch.stack(inverse)
        behind[:, start : start + 4] = TWO_FOUR.mask(score, None)
        first = TWO_FOUR.mask(weight[:, start : start + 4] ** 2 / torch.stack(inverse), None)
        changed |= not torch.equal(first, behind[:, start : start + 4])
    assert torch.equal(mask, behind)
    assert changed  # the original weights would have chosen others


def test_blocks_change_only_when_the_work_is_done():
    weight, h = drawn(6, 24), hessian_of(correlated(width=24))
    whole = sparsegpt(weight, h, TWO_FOUR, 0.5, block=24)
    for block in (1, 4, 7, 8, 128):
        new, mask = sparsegpt(weight, h, TWO_FOUR, 0.5, block=block)
        assert torch.equal(mask, whole[1])
        torch.testing.assert_close(new, whole[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_it_errs_less_than_its_own_mask_alone_than_magnitude_and_than_wanda(pattern):
    weight, x = drawn(32, 16), correlated()
    kind = parse(pattern)
    new, mask = sparsegpt(weight, hessian_of(x), kind, 0.5)
    own = error(weight, new, x)
    norm = x.square().sum(0).sqrt()
    others = {}
    for name, score in [("size", weight.abs()), ("wanda", scores.wanda(weight, norm))]:
        chosen = kind.mask(score, None) if kind.m else keep_top_of_rows(score, 8)
        others[name] = error(weight, weight * chosen, x)
    assert own < error(weight, weight * mask, x)
    assert own < 0.5 * others["wanda"] and others["wanda"] < others["size"]


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_with_inputs_of_no_correlation_and_one_size_it_is_magnitude_pruning(pattern):
    weight, kind = drawn(6, 16), parse(pattern)
    new, mask = sparsegpt(weight, 3.0 * torch.eye(16, dtype=torch.float64), kind, 0.5, block=16)
    assert torch.equal(mask, kind.mask(weight.abs(), None if kind.m else 48))
    assert torch.equal(new, weight * mask)


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "4:8"])
def test_ties_leave_exactly_n_of_m(pattern):
    kind = parse(pattern)
    for weight in (torch.ones(5, 16), torch.zeros(5, 16)):
        _, mask = sparsegpt(weight, torch.eye(16), kind, 0.5)
        assert (mask.reshape(-1, kind.m).sum(1) == kind.n).all()


@pytest.mark.parametrize("sparsity", [0.1, 0.37, 0.5, 0.9])
@pytest.mark.parametrize("block", [5, 8, 128])
def test_unstructured_drops_exactly_the_declared_number_of_weights(sparsity, block):
    for weight in (drawn(7, 16), torch.ones(7, 16)):
        h = hessian_of(correlated()).to(weight.dtype)
        new, mask = sparsegpt(weight, h, UNSTRUCTURED, sparsity, block=block)
        assert int((~mask).sum()) == round(sparsity * 7 * 16)
        assert not new[~mask].any()


def test_a_feature_that_is_always_zero_leaves_the_layer():
    x = correlated()
    x[:, [2, 9]] = 0
    weight = drawn(6, 16)
    new, _ = sparsegpt(weight, hessian_of(x), UNSTRUCTURED, 0.25, block=16, damping=0.01)
    assert not new[:, [2, 9]].any() and new.isfinite().all()
    alive = [q for q in range(16) if q not in (2, 9)]
    rest, _ = sparsegpt(  # the others do not notice: 28 weights go, 12 of them dead ones
        weight[:, alive], hessian_of(x[:, alive]), UNSTRUCTURED, 12 / 84, block=14, damping=0.0
    )
    exact, _ = sparsegpt(weight, hessian_of(x), UNSTRUCTURED, 24 / 96, block=16, damping=0.0)
    torch.testing.assert_close(exact[:, alive], rest, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_weights_that_were_pruned_before_stay_pruned_and_are_made_up_for(pattern):
    keep = drawn(6, 16, seed=5) > -0.5
    keep[:, 4:7] = False  # three of a group of four: more than 2:4 would take
    weight, h = drawn(6, 16) * keep, hessian_of(correlated())
    new, mask = sparsegpt(weight, h, parse(pattern), 0.5, block=4, damping=0.0, keep=keep)
    assert not new[~keep].any() and not mask[~keep].any()
    torch.testing.assert_close(new, reference(weight, h, mask), rtol=1e-9, atol=1e-10)
    free, _ = sparsegpt(weight, h, parse(pattern), 0.5, block=4, damping=0.0)
    assert free[~keep].any()  # or there would be nothing to hold


def test_a_hessian_without_inverse_is_damped_more_and_says_so(caplog):
    x = drawn(3, 16)  # of rank 3
    h = hessian_of(x).float()
    with caplog.at_level(logging.WARNING):
        new, _ = sparsegpt(drawn(4, 16).float(), h, TWO_FOUR, 0.5, damping=1e-9)
    assert new.isfinite().all()
    assert "damping=1e-09: H is not positive definite; 1e-08 is tried" in caplog.text
    caplog.clear()
    sparsegpt(drawn(4, 16).float(), h, TWO_FOUR, 0.5, damping=0.01)
    assert caplog.text == ""


def test_a_hessian_that_no_damping_helps_is_an_error():
    with pytest.raises(StageError, match="is not positive definite with 100"):
        sparsegpt(drawn(4, 16), hessian_of(drawn(9, 16)) - 1e3 * torch.eye(16), TWO_FOUR, 0.5)
    with pytest.raises(StageError, match="not finite"):
        sparsegpt(drawn(4, 16), torch.full((16, 16), float("nan")), TWO_FOUR, 0.5)


@pytest.mark.parametrize("width", [16, 256, 600])  # it is inverted 256 rows at a time
def test_the_factor_is_the_cholesky_factor_of_the_damped_inverse(width):
    h = hessian_of(correlated(width=width))
    u = obs.inverse_factor(h, 0.01)
    damped = h + 0.01 * h.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    want = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    torch.testing.assert_close(u, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("width", [1, 5, 16, 37])
def test_a_hessian_summed_in_portions_is_that_of_all_tokens(width):
    x = correlated(width=width)
    one = Hessian()
    for part in (x[:1], x[1:1], x[1:150], x[150:]):
        one.add(part)
        assert torch.equal(one.value(), one.value().T)  # may be asked for at any time
    torch.testing.assert_close(one.value(), hessian_of(x), rtol=1e-11, atol=1e-12)


def test_half_precision_inputs_are_summed_in_single_precision():
    x = correlated(tokens=4000).to(torch.bfloat16)
    one = Hessian()
    for part in x.split(100):
        one.add(part)
    assert one.value().dtype == torch.float32
    torch.testing.assert_close(one.value().double(), hessian_of(x.double()), rtol=1e-4, atol=1e-4)
