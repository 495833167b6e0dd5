"""AdamS against its paper, and the traps around it (T1 … T20: the invariants of CAST's notes)."""

import copy
import math

import pytest
import torch
from torch import nn

from gossamer.errors import ConfigError, ResumeError
from gossamer.sparsity import adams
from gossamer.sparsity.adams import AdamS
from gossamer.sparsity.patterns import parse

SHAPES = ((8, 12), (3, 4), (16, 8))
paths = pytest.mark.parametrize("foreach", [True, False], ids=["foreach", "one by one"])


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.double) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(dtype: torch.dtype = torch.double) -> list[nn.Parameter]:
    return [nn.Parameter(0.1 * draw(*shape, seed=i, dtype=dtype)) for i, shape in enumerate(SHAPES)]


def adams_of(parameters, foreach=True, **changes) -> AdamS:
    settings = {"lr": 1e-2, "total_steps": 40, "decay": 0.3, "refresh": 10, **changes}
    return AdamS([{"params": parameters, "sparse": True}], foreach=foreach, **settings)


def walk(optimizer, parameters, steps: int, first: int = 0, scale: float = 1.0) -> None:
    """Steps with random gradients that depend on the step alone."""
    for step in range(first, first + steps):
        for index, parameter in enumerate(parameters):
            gradient = draw(*parameter.shape, seed=1000 * step + index, dtype=parameter.dtype)
            parameter.grad = scale * gradient
        optimizer.step()


def apart(ours: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error; of what crosses zero, relative to a step (γ = 1e-2)."""
    return float(((ours - expected).abs() / expected.abs().clamp(min=1e-2)).max())


def by_hand(theta, gradients, lr, T, lam, refresh, n, m, beta1, beta2, eps=1e-8):
    """Algorithm 1 for one row of scalars, in python's doubles; independent of the package."""
    theta, mu, v, mask = list(theta), [0.0] * len(theta), [0.0] * len(theta), []
    for t, g in enumerate(gradients):
        if t % refresh == 0:
            order = sorted(range(len(theta)), key=lambda i: (i // m, -abs(theta[i]), i))
            mask = [order.index(i) % m < n for i in range(len(theta))]
        a = min(t / T, 1.0)
        for i in range(len(theta)):
            mu[i] = beta1 * mu[i] + (1 - beta1) * g[i]
            sign = (theta[i] > 0) - (theta[i] < 0)
            mixed = mu[i] if mask[i] else (1 - a) * mu[i] + a * lam * sign
            v[i] = beta2 * v[i] + (1 - beta2) * mixed**2
            hat = math.sqrt(v[i] / (1 - beta2 ** (t + 1))) + eps
            theta[i] -= lr * (mixed / (1 - beta1 ** (t + 1))) / hat
    return theta, mu, v, mask


@paths
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:8"])
def test_fifty_steps_are_those_of_the_paper(foreach, pattern):
    """T4: random gradients, masks that change, and steps after T."""
    parameter = nn.Parameter(0.05 * draw(6, 8))
    start = parameter.detach().clone()
    optimizer = adams_of([parameter], foreach, pattern=pattern)
    walk(optimizer, [parameter], 50)
    n, m = (int(number) for number in pattern.split(":"))
    gradients = [draw(6, 8, seed=1000 * step) for step in range(50)]
    state = optimizer.state[parameter]
    for row in range(6):
        theta, mu, v, mask = by_hand(
            start[row].tolist(),
            [gradient[row].tolist() for gradient in gradients],
            *(1e-2, 40, 0.3, 10, n, m, 0.9, 0.95),
        )
        for ours, theirs in ((parameter, theta), (state["exp_avg"], mu), (state["exp_avg_sq"], v)):
            assert apart(ours[row].detach(), torch.tensor(theirs, dtype=torch.double)) < 1e-12
        assert (~state["masked"][row]).tolist() == mask
    assert float(optimizer.param_groups[0]["flips_so_far"]) > 0


@pytest.mark.parametrize("together", [1 << 18, 20, 4])
def test_both_paths_take_the_same_steps(together, monkeypatch):
    monkeypatch.setitem(adams.TOGETHER, "cpu", together)  # matrices in one piece, in rows, in parts
    ends = []
    for foreach in (True, False):
        parameters = weights()
        dense = nn.Parameter(draw(5, seed=9))
        groups = [{"params": parameters, "sparse": True}, {"params": [dense]}]
        optimizer = AdamS(groups, 1e-2, 40, 0.3, foreach=foreach, weight_decay=0.1)
        walk(optimizer, [*parameters, dense], 30)
        ends.append([*parameters, dense])
    for one, other in zip(*ends, strict=True):
        assert apart(one.detach(), other.detach()) < 1e-12


@paths
def test_masks_are_made_before_the_update_of_the_steps_that_the_period_divides(foreach):
    """T3"""
    parameters = weights()
    optimizer = adams_of(parameters, foreach, refresh=10)
    for step in range(31):
        before = [p.detach().clone() for p in parameters]
        old = [s["masked"].clone() for s in map(optimizer.state.get, parameters) if s]
        walk(optimizer, parameters, 1, first=step)
        for index, parameter in enumerate(parameters):
            mask = optimizer.state[parameter]["masked"]
            if step % 10 == 0:
                assert torch.equal(~mask, parse("2:4").mask(before[index].abs(), None))
            else:
                assert torch.equal(mask, old[index])


@paths
def test_groups_are_exact_when_all_weights_are_equal_or_zero(foreach):
    """T1: `|w| >= threshold` would keep them all."""
    for value in (0.0, 0.5):
        parameter = nn.Parameter(torch.full((3, 8), value))
        optimizer = adams_of([parameter], foreach)
        parameter.grad = torch.ones(3, 8)
        optimizer.step()
        masked = optimizer.state[parameter]["masked"]
        assert masked.reshape(-1, 4).tolist() == [[False, False, True, True]] * 6


@paths
def test_the_first_step_knows_no_mask(foreach):
    """T5: α₀ = 0, so every entry takes the branch m = 1: a step of γ along the gradient's sign."""
    parameter = nn.Parameter(draw(4, 8))
    start = parameter.detach().clone()
    optimizer = adams_of([parameter], foreach, decay=1e6)
    walk(optimizer, [parameter], 1)
    # μ̂ = g and v̂ = ((1−β1) g)², so the step is γ / (1−β1)
    expected = start - 1e-2 / 0.1 * draw(4, 8).sign()
    assert torch.allclose(parameter, expected, atol=1e-6)


@paths
def test_the_share_of_the_decay_stops_at_one(foreach):
    """T5: after T the gradient has no part in masked entries; μ goes on."""
    ends = []
    for scale in (1.0, -3.0):
        parameter = nn.Parameter(draw(4, 8))
        optimizer = adams_of([parameter], foreach, total_steps=3, refresh=100)
        walk(optimizer, [parameter], 3, scale=0.0)
        walk(optimizer, [parameter], 4, first=3, scale=scale)
        ends.append((parameter, optimizer.state[parameter]["masked"]))
    (one, masked), (other, again) = ends
    assert torch.equal(masked, again)
    assert torch.equal(one[masked], other[masked])
    assert not torch.equal(one[~masked], other[~masked])


@paths
def test_without_gradients_kept_weights_stay_and_masked_ones_shrink_to_one_step(foreach):
    """T6"""
    parameter = nn.Parameter(draw(4, 8) * 0.05)
    with torch.no_grad():
        parameter[0, :4] = torch.tensor([0.9, -0.9, 0.0, -0.0])
    start = parameter.detach().clone()
    optimizer = adams_of([parameter], foreach, lr=1e-3, total_steps=300)
    before = start
    for step in range(300):
        walk(optimizer, [parameter], 1, scale=0.0)
        masked, now = optimizer.state[parameter]["masked"], parameter.detach().clone()
        assert torch.equal(now[~masked], start[~masked])
        far = masked & (before.abs() > 8e-3)  # 1 / (1 − β1²) makes the second step 7.4 γ
        assert step == 0 or (now.abs() < before.abs())[far].all()
        before = now
    assert masked.any() and start[masked].abs().max() > 2e-2
    assert now[masked].abs().max() < 2e-3
    assert now[0, 2:4].tolist() == [0.0, 0.0]  # sign(0) = 0


@pytest.mark.parametrize("beta2", [0.95, 0.999])
def test_without_gradients_the_size_of_the_decay_does_not_matter(beta2):
    """T7: and a step is between γ and √3 γ long."""
    ends, lengths = [], []
    for decay in (0.1, 1.0):
        parameter = nn.Parameter(5 + draw(4, 8).abs())
        optimizer = adams_of([parameter], lr=1e-3, decay=decay, total_steps=200, betas=(0.9, beta2))
        for _ in range(200):
            before = parameter.detach().clone()
            walk(optimizer, [parameter], 1, scale=0.0)
        masked = optimizer.state[parameter]["masked"]
        lengths += ((before - parameter.detach())[masked] / 1e-3).tolist()
        ends.append(parameter.detach())
    assert torch.allclose(*ends, rtol=1e-5)
    assert all(1 <= length <= 1.74 for length in lengths)
    assert max(lengths) > 1.05 if beta2 == 0.95 else min(lengths) > 1.5


@paths
def test_momentum_is_of_the_raw_gradient_and_the_second_moment_of_the_mixed_update(foreach):
    """T8"""
    parameter = nn.Parameter(draw(4, 8))
    optimizer = adams_of([parameter], foreach)
    average = torch.zeros(4, 8, dtype=torch.double)
    for step in range(25):
        walk(optimizer, [parameter], 1, first=step)
        average.lerp_(draw(4, 8, seed=1000 * step), 1 - 0.9)
        assert torch.equal(optimizer.state[parameter]["exp_avg"], average)
    still = nn.Parameter(draw(4, 8))
    optimizer = adams_of([still], foreach)
    walk(optimizer, [still], 2, scale=0.0)
    state = optimizer.state[still]
    assert (state["exp_avg"] == 0).all()
    assert torch.equal(state["exp_avg_sq"] > 0, state["masked"])


def test_where_nothing_is_masked_it_is_adam_with_v_of_the_momentum():
    """T9: steps on noise are √((1+β1)/(1−β1)) = 4.36 times as long as Adam's."""
    ours, theirs = (nn.Parameter(torch.ones(100, 80, dtype=torch.double)) for _ in range(2))
    optimizer = adams_of([ours], lr=1e-6, decay=0.0, total_steps=10**9)
    adam = torch.optim.Adam([theirs], lr=1e-6, betas=(0.9, 0.95))
    lengths = []
    for step in range(200):
        before = ours.detach().clone(), theirs.detach().clone()
        walk(optimizer, [ours], 1, first=step)
        theirs.grad = ours.grad.clone()
        adam.step()
        if step > 100:
            moved = [
                (a - b.detach()).square().mean().sqrt()
                for a, b in zip(before, (ours, theirs), strict=True)
            ]
            lengths.append(float(moved[0] / moved[1]))
    assert sum(lengths) / len(lengths) == pytest.approx(math.sqrt(1.9 / 0.1), rel=0.02)


@paths
def test_parameters_outside_get_plain_adam_with_decoupled_weight_decay(foreach):
    """T10: weight decay is off unless asked for, and then AdamW's."""
    for weight_decay in (0.0, 0.1):
        ours, theirs = nn.Parameter(draw(6, 5)), nn.Parameter(draw(6, 5))
        optimizer = AdamS([ours], 1e-2, 40, 0.3, weight_decay=weight_decay, foreach=foreach)
        walk(optimizer, [ours], 20)
        adam = torch.optim.AdamW([theirs], 1e-2, betas=(0.9, 0.95), weight_decay=weight_decay)
        walk(adam, [theirs], 20)
        assert torch.allclose(ours, theirs, rtol=1e-12)
    assert AdamS([nn.Parameter(draw(2, 2))], 1e-2, 40, 0.3).defaults["weight_decay"] == 0.0


def test_the_decay_is_added_after_the_gradient_is_scaled_or_accumulated():
    """T10: two half batches in one step are one whole batch, and a clipped gradient leaves λ."""
    ends = []
    for parts in (1, 2):
        parameter = nn.Parameter(draw(4, 8))
        optimizer = adams_of([parameter])
        for step in range(20):
            optimizer.zero_grad()
            for part in range(parts):
                piece = slice(16 * part // parts, 16 * (part + 1) // parts)
                x = draw(16, 8, seed=step)[piece]
                (nn.functional.linear(x, parameter).square().sum() / 16).backward()
            nn.utils.clip_grad_norm_([parameter], 0.1)
            optimizer.step()
        ends.append(parameter.detach())
    assert torch.allclose(*ends, rtol=1e-12)


@paths
def test_opposite_weights_and_gradients_mirror_the_path(foreach):
    """T11"""
    ends = []
    for sign in (1, -1):
        parameter = nn.Parameter(sign * draw(4, 8))
        walk(adams_of([parameter], foreach), [parameter], 30, scale=sign)
        ends.append(parameter.detach())
    assert torch.equal(ends[0], -ends[1])


def test_the_state_is_float32_and_bfloat16_weights_are_refused():
    """T12"""
    parameters = weights(torch.float32)
    optimizer = adams_of(parameters)
    walk(optimizer, parameters, 3)
    for parameter in parameters:
        state = optimizer.state[parameter]
        assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float32
        assert state["masked"].dtype == torch.bool
    for sparse in (True, False):
        half = nn.Parameter(torch.zeros(4, 4, dtype=torch.bfloat16))
        with pytest.raises(ConfigError, match=r"trainer\.precision=bf16-mixed"):
            AdamS([{"params": [half], "sparse": sparse}], 1e-3, 10, 0.1)


@pytest.mark.parametrize("decay", [0.3, None])
def test_a_saved_and_loaded_state_goes_on_bit_by_bit(decay, tmp_path):
    """T19: the mask is only made every ten steps, so it must have been saved."""
    parameters = weights(torch.float32)
    optimizer = adams_of(parameters, decay=decay)
    walk(optimizer, parameters, 17)
    saved = copy.deepcopy([p.detach() for p in parameters])
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    walk(optimizer, parameters, 6, first=17)

    others = [nn.Parameter(weight + 1) for weight in saved]
    again = adams_of(others, decay=decay)
    walk(again, others, 2)  # another mask, another λ
    with torch.no_grad():
        for parameter, weight in zip(others, saved, strict=True):
            parameter.copy_(weight)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    walk(again, others, 6, first=17)
    for one, other in zip(parameters, others, strict=True):
        assert torch.equal(one, other)
        mine, theirs = optimizer.state[one], again.state[other]
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
        assert theirs["masked"].dtype == torch.bool
    for key, value in optimizer.param_groups[0].items():
        assert key == "params" or again.param_groups[0][key] == value


@pytest.mark.parametrize(
    "change", [{"total_steps": 41}, {"refresh": 5}, {"pattern": "1:4"}], ids=str
)
def test_going_on_with_another_schedule_is_refused(change):
    """T19: α = t / T."""
    parameters = weights()
    optimizer = adams_of(parameters)
    walk(optimizer, parameters, 3)
    ((key, value),) = change.items()
    with pytest.raises(ResumeError, match=f"{key}={value}") as raised:
        adams_of(weights(), **change).load_state_dict(optimizer.state_dict())
    assert "\n" not in str(raised.value)


@paths
def test_a_decay_that_is_not_given_is_the_size_of_the_first_gradients(foreach):
    parameters = weights()
    optimizer = adams_of(parameters, foreach, decay=None)
    walk(optimizer, parameters, 1)
    drawn = torch.cat([p.grad.flatten() for p in parameters])
    (group,) = optimizer.param_groups
    assert group["decay"] == pytest.approx(float(drawn.square().mean().sqrt()), rel=1e-12)
    walk(optimizer, parameters, 5, first=1, scale=7.0)
    assert group["decay"] == pytest.approx(float(drawn.square().mean().sqrt()), rel=1e-12)
    with pytest.raises(ConfigError, match="decay=null"):
        one = weights()
        walk(adams_of(one, decay=None), one, 1, scale=0.0)


@paths
def test_changed_bits_are_counted(foreach):
    """T18"""
    parameter = nn.Parameter(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    optimizer = adams_of([parameter], foreach, refresh=1)
    parameter.grad = torch.zeros(1, 4)
    (group,) = optimizer.param_groups
    seen = []
    for values in ([4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0], [4.0, 0.1, 2.0, 1.0]):
        with torch.no_grad():
            parameter.copy_(torch.tensor([values]))
        optimizer.step()
        seen.append((float(group["flips"]), float(group["flips_so_far"])))
    assert seen == [(0, 0), (0, 0), (2, 2)]


def test_a_parameter_without_a_gradient_is_left_alone():
    parameters = weights()
    start = parameters[1].detach().clone()
    optimizer = adams_of(parameters)
    walk(optimizer, [parameters[0], parameters[2]], 12)
    assert torch.equal(parameters[1], start)
    walk(optimizer, parameters, 1, first=12)  # between two refreshes: it gets its first mask
    assert "masked" in optimizer.state[parameters[1]]
    assert not torch.equal(parameters[1], start)


def test_what_cannot_have_the_pattern_is_refused():
    with pytest.raises(ValueError, match="6 input features, not a multiple of 4"):
        adams_of([nn.Parameter(torch.zeros(4, 6))])
    with pytest.raises(ValueError, match="masks N of M"):
        adams_of([nn.Parameter(torch.zeros(4, 8))], pattern="unstructured")
