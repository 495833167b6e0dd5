"""SR-STE: masks while training, decays what is masked, keeps the function when it is baked."""

import pytest
import torch
from small import Small, inputs, one_shot, small, train
from torch import nn

from gossamer.compression.sr_ste import SrSte
from gossamer.contract import Stage
from gossamer.models.parts import body_linears
from gossamer.sparsity.patterns import parse

LAYERS = list(body_linears(small()))


def begun(method: SrSte) -> Small:
    model = small()
    method.prepare(model)
    assert one_shot(method, model, "mask") == LAYERS
    return model


def test_the_model_computes_with_the_mask_from_the_first_stage_on():
    dense, masked = small(), begun(SrSte())
    with torch.no_grad():
        for layer in body_linears(dense).values():
            layer.weight.mul_(parse("2:4").mask(layer.weight.abs(), None))
        assert torch.equal(masked(inputs()), dense(inputs()))


@pytest.mark.parametrize("refresh", [1, 2])
def test_masks_are_renewed_after_the_steps_that_the_period_divides(refresh):
    method = SrSte(refresh=refresh)
    model = begun(method)
    train(method, model, steps=4)
    for layer in body_linears(model).values():
        assert torch.equal(layer.weight_mask, parse("2:4").mask(layer.weight.abs(), None))
    old = {path: layer.weight_mask.clone() for path, layer in body_linears(model).items()}
    with torch.no_grad():
        for layer in body_linears(model).values():
            layer.weight.copy_(torch.where(layer.weight_mask, 0.0, 1.0))
    method.after_step(5, model, None)
    same = [torch.equal(old[p], layer.weight_mask) for p, layer in body_linears(model).items()]
    assert all(same) if refresh == 2 else not any(same)
    assert method.monitors(model, None)["flips_so_far"] > 0


def test_the_decay_shrinks_what_is_masked():
    ends = {}
    for decay in (0.0, 1.0):
        method = SrSte(decay=decay)
        model = begun(method)
        train(method, model, steps=30)
        ends[decay] = method.monitors(model, None)["masked_mean"]
    assert ends[1.0] < 0.5 * ends[0.0]


def test_pruning_and_baking_keep_the_function():
    method = SrSte()
    model = begun(method)
    train(method, model)
    with torch.no_grad():
        before = model(inputs())
        assert one_shot(method, model, "prune", frozenset(LAYERS[:1])) == LAYERS[1:]
        assert torch.equal(model(inputs()), before)
        method.finalize(model)
        assert torch.equal(model(inputs()), before)
    assert {type(layer) for layer in body_linears(model).values()} == {nn.Linear}
    assert all(fact.density == fact.target == 0.5 for fact in method.ledger(model))
    (check,) = method.verify(model, model)
    assert check.passed
    with torch.no_grad():
        model.get_submodule(LAYERS[0]).weight[0, :3] = 1.0
    (check,) = method.verify(model, model)
    assert not check.passed


def test_an_unstructured_mask_drops_the_same_share_of_every_layer():
    method = SrSte(pattern="unstructured", sparsity=0.75)
    model = begun(method)
    method.finalize(model)
    assert all(fact.density == fact.target == 0.25 for fact in method.ledger(model))
    (check,) = method.verify(model, model)
    assert check.passed
    with torch.no_grad():
        model.get_submodule(LAYERS[0]).weight.fill_(1.0)
    (check,) = method.verify(model, model)
    assert not check.passed


def test_the_first_mask_and_the_last_pruning_frame_what_is_trained():
    training = [Stage("first", 0.25), Stage("second", 0.75, lr=1e-3)]
    seen = [(stage.name, stage.share, stage.lr) for stage in SrSte().stages(training)]
    assert seen == [
        ("mask", 0.0, None),
        ("first", 0.25, None),
        ("second", 0.75, 1e-3),
        ("prune", 0.0, None),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pattern": "row"}, "pattern=row: choose N:M, in quotes, or unstructured"),
        ({"pattern": "block:4x4"}, "pattern=block:4x4: choose N:M"),
        ({"pattern": "4:2"}, "pattern='4:2'"),
        ({"pattern": "unstructured"}, "sparsity=null: unstructured masks need one"),
        ({"pattern": "unstructured", "sparsity": 1.0}, "sparsity=1.0"),
        ({"sparsity": 0.75}, "sparsity=0.75: pattern 2:4 fixes it"),
        ({"decay": -1.0}, "decay=-1.0"),
        ({"refresh": 0}, "refresh=0"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_weight_is_allocated(options, words):
    with torch.device("meta"):
        model = Small()
    problems = SrSte(**options).requirements(model, None)
    assert any(words in problem for problem in problems), problems
    assert SrSte().requirements(model, None) == []
    assert SrSte(sparsity=0.5).requirements(model, None) == []
    assert SrSte(pattern="unstructured", sparsity=0.9).requirements(model, None) == []
