"""Heads and neurons: gates, their penalty, the scores, and removal."""

import copy

import pytest
import torch

from gossamer.compression.dsee import DSEE
from gossamer.compression.dsee.structured import (
    GatedLinear,
    gates,
    remove_units,
    unit_scores,
)
from gossamer.errors import StageError
from gossamer.models.parts import body_linears, parts_of

from .built import finished, logits, one_shot, pruned, small, staged, train, tuned

RULES = ("update", "weight", "random", "gates")


def units_of(model, kind):
    return [units for units in parts_of(model).units if units.kind == kind]


def structured(**kwargs) -> DSEE:
    given = {"sparsity": 0.0, "heads": 0.25, "neurons": 0.25} | kwargs
    return DSEE(**given)


@pytest.mark.parametrize("rule", RULES)
def test_removal_keeps_the_function_of_the_gated_model_and_the_declared_counts(rule):  # T15
    method = structured(structure_score=rule, gate_l1=0.01)
    model = pruned(method, small(layers=3))
    train(method, model, "recover")
    expected = logits(model)
    method.finalize(model)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert [units.count for units in units_of(model, "heads")] == [3, 3, 3]
    assert sum(units.count for units in units_of(model, "neurons")) == 3 * 48 - round(0.25 * 144)
    for units in units_of(model, "heads"):
        core = model.get_submodule(f"{units.block}.attention.self")
        assert (core.num_attention_heads, core.all_head_size) == (3, 24)
        assert [core.query.weight.shape, core.query.bias.shape] == [(24, 32), (24,)]
        assert core.key.bias.shape == core.value.bias.shape == (24,)


def test_removing_units_equals_zeroing_their_weights_and_biases_in_the_whole_model():  # T15
    method = structured(deploy="side_branch")
    model = pruned(method, small())
    zeroed = copy.deepcopy(model)
    for gated in gates(zeroed):
        gated.gate.data.fill_(1.0)
    for units in parts_of(zeroed).units:
        kept = model.get_submodule(units.columns[0]).kept.repeat_interleave(units.size)
        for path in units.rows:
            layer = zeroed.get_submodule(path)
            layer.weight.data[~kept] = 0
            layer.bias.data[~kept] = 0
            if hasattr(layer, "U"):
                layer.U.data[~kept] = 0
                rows, _ = layer.positions()
                layer.values.data[~kept[rows]] = 0
        for path in units.columns:
            zeroed.get_submodule(path).weight.data[:, ~kept] = 0
    V = {path: m.V.clone() for path, m in body_linears(model, method.roles).items()}
    method.finalize(model)
    torch.testing.assert_close(logits(model), logits(zeroed), atol=1e-5, rtol=1e-5)
    for path, layer in body_linears(model, method.roles).items():
        assert layer.U.shape == (24, 16) and torch.equal(layer.V, V[path])
        assert layer.values.numel() == layer.indices.numel() < 64
        assert int(layer.indices.max()) < layer.weight.numel()


def test_a_gate_of_one_is_the_identity_bit_for_bit_and_a_gate_of_zero_removes():  # T16
    layer = torch.nn.Linear(12, 5)
    x = torch.randn(7, 12)
    expected = layer(x)
    gated = GatedLinear(layer, size=3)
    for training in (True, False):
        gated.gate.requires_grad_(training)
        assert torch.equal(gated(x), expected)
    gated.keep_only(torch.tensor([True, False, True, True]))
    without = x.clone()
    without[:, 3:6] = 0
    for training in (True, False):
        gated.gate.requires_grad_(training)
        torch.testing.assert_close(gated(x), layer(without))
        torch.testing.assert_close(gated.folded()(x), layer(without))


def test_a_head_gate_scales_the_attention_probabilities_of_its_head():
    """The gate stands behind the value product; the paper's stands on the probabilities."""
    draw = torch.Generator().manual_seed(0)
    probabilities = torch.rand(2, 3, 5, 5, generator=draw).softmax(-1)  # (batch, heads, n, n)
    value, gate = torch.randn(2, 3, 5, 4, generator=draw), torch.tensor([0.5, 0.0, 2.0])
    layer = torch.nn.Linear(12, 12)
    gated = GatedLinear(layer, size=4)
    gated.gate.data.copy_(gate)
    paper = (gate.view(1, 3, 1, 1) * probabilities) @ value
    mixed = (probabilities @ value).transpose(1, 2).reshape(2, 5, 12)
    torch.testing.assert_close(gated(mixed), layer(paper.transpose(1, 2).reshape(2, 5, 12)))


def test_the_penalty_is_lambda_times_the_sum_of_magnitudes_with_its_sign_as_gradient():  # T16
    method = structured(structure_score="gates", gate_l1=0.125)
    model = small()
    method.prepare(model)
    method.enter(staged(method)["tune"], model)
    first = gates(model)[0]
    first.gate.data[:3] = torch.tensor([-2.0, 0.0, 0.5])
    term = method.losses(model, None, {}, {}, None)["gates"]
    total = sum(float(gated.gate.detach().abs().sum()) for gated in gates(model))
    assert float(term.detach()) == pytest.approx(0.125 * total)
    term.backward()
    assert first.gate.grad[:4].tolist() == [-0.125, 0.0, 0.125, 0.125]


def test_gates_train_while_tuning_only_and_only_where_they_choose():
    model = small()
    method = structured(structure_score="gates")
    method.prepare(model)
    for name, trains in (("support", False), ("tune", True), ("prune", False), ("recover", False)):
        method.enter(staged(method)[name], model)
        assert {gated.gate.requires_grad for gated in gates(model)} == {trains}
        assert ("gates" in method.losses(model, None, {}, {}, None)) == trains
    other = structured(structure_score="update")
    other.enter(staged(other)["tune"], model)
    assert not any(gated.gate.requires_grad for gated in gates(model))


def test_gates_move_only_by_training_and_those_that_stay_keep_what_they_learnt():
    method = structured(structure_score="gates", gate_l1=0.05)
    model = tuned(method, small())
    learnt = [gated.gate.detach().clone() for gated in gates(model)]
    assert all((gate != 1).all() for gate in learnt)
    one_shot(method, model, "prune")
    train(method, model, "recover")
    for gated, gate in zip(gates(model), learnt, strict=True):
        assert torch.equal(gated.gate, gate * gated.kept)
        assert not gated.kept.all()


def test_head_score_by_update_is_the_sum_over_its_rows_of_the_query_and_value_updates():
    method = structured()
    model = tuned(method, small())
    units = units_of(model, "heads")[0]
    score = unit_scores(model, units, "update", torch.Generator())
    query, key, value = (model.get_submodule(path) for path in units.rows)
    expected = [
        float(query.update()[8 * h : 8 * h + 8].abs().sum())
        + float(value.update()[8 * h : 8 * h + 8].abs().sum())
        for h in range(4)
    ]
    assert score.tolist() == pytest.approx(expected)
    key.weight.data.normal_()  # has no update, so it has no say
    assert torch.equal(score, unit_scores(model, units, "update", torch.Generator()))


def test_neurons_without_an_update_fall_back_on_the_norms_of_their_weight_rows():
    method = structured()
    model = tuned(method, small())
    units = units_of(model, "neurons")[0]
    up = model.get_submodule(units.rows[0])
    score = unit_scores(model, units, "update", torch.Generator())
    torch.testing.assert_close(score, up.weight.abs().sum(1))
    adapted = structured(roles=("query", "value", "up"))
    model = tuned(adapted, small())
    up = model.get_submodule(units.rows[0])
    score = unit_scores(model, units, "update", torch.Generator())
    torch.testing.assert_close(score, up.update().abs().sum(1))


def test_the_lowest_gates_go_heads_in_each_block_and_neurons_over_all():
    method = structured(heads=0.5, neurons=0.5, structure_score="gates")
    model = small()
    method.prepare(model)
    heads, wide = units_of(model, "heads"), units_of(model, "neurons")
    for place, units in enumerate(heads):
        gate = model.get_submodule(units.columns[0]).gate
        gate.data.copy_(torch.tensor([0.9, -0.2, 0.1, -0.8]) / (1 + place))
    for place, units in enumerate(wide):
        model.get_submodule(units.columns[0]).gate.data.fill_(1.0 - 0.5 * place)
    one_shot(method, model, "prune")
    for units in heads:
        kept = model.get_submodule(units.columns[0]).kept
        assert kept.tolist() == [True, False, False, True]
    counts = [int(model.get_submodule(units.columns[0]).kept.sum()) for units in wide]
    assert counts == [47, 1]  # the block of low gates keeps one all the same


def test_a_block_keeps_at_least_one_unit_of_each_kind():  # T15
    method = structured(heads=0.75, neurons=0.97, structure_score="weight")
    model = finished(method, small())
    assert [units.count for units in units_of(model, "heads")] == [1, 1]
    counts = [units.count for units in units_of(model, "neurons")]
    assert min(counts) >= 1 and sum(counts) == 96 - round(0.97 * 96)
    assert logits(model).isfinite().all()


def test_updates_that_are_zero_rank_no_unit():  # T13
    method = structured()
    model = small()
    method.prepare(model)
    one_shot(method, model, "support")
    with pytest.raises(StageError, match=r"update is zero.*heads"):
        remove_units(model, 0.25, 0.0, "update", lambda units: torch.Generator())


def test_masks_are_drawn_over_what_structured_pruning_leaves():
    method = DSEE(sparsity=0.5, update_sparsity=0.3, heads=0.25, neurons=0.25)
    model = finished(method, small())
    assert all(check.passed for check in method.verify(model, model))
    weights = [
        layer.weight
        for path, layer in body_linears(model).items()
        if parts_of(model).linear[path] not in method.roles
    ]
    total = sum(weight.numel() for weight in weights)
    assert sum(int((weight == 0).sum()) for weight in weights) == round(0.5 * total)
