"""AST: what it changes of SR-STE. What both share is in test_sr_ste.py and in tests/sparsity."""

import pytest
import torch
from small import Small, enter, inputs, one_shot, small
from torch import nn

from gossamer.compression.ast import Ast
from gossamer.contract import Stage
from gossamer.distillation import kl
from gossamer.models.parts import body_linears
from gossamer.sparsity.decayed import DecayedAdamW
from gossamer.sparsity.patterns import parse

LAYERS = list(body_linears(small()))


def begun(method: Ast, steps: int) -> tuple[Small, DecayedAdamW]:
    model = small()
    method.prepare(model)
    assert one_shot(method, model, "mask") == LAYERS
    stage = Stage("train", steps=steps, lr=1e-2)
    enter(method, stage, model)
    return model, method.optimizer(list(model.named_parameters()), stage)


def step(method, model, optimizer, number: int) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs()), torch.arange(16) % 3).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
    method.after_step(number, model, optimizer)


def test_the_optimizer_decays_what_the_forward_pass_masks():
    """Both make their masks of the same weights at the same steps."""
    method = Ast(refresh=3)
    model, optimizer = begun(method, steps=20)
    for number in range(1, 12):
        before = {path: layer.weight_mask.clone() for path, layer in body_linears(model).items()}
        step(method, model, optimizer, number)
        for path, layer in body_linears(model).items():
            masked = optimizer.state[layer.weight]["masked"]
            assert torch.equal(masked == 0, before[path])
    last = body_linears(model)[LAYERS[0]]
    assert int(last.weight_mask.sum()) == last.weight.numel() // 2
    assert sum(int(layer.flips_so_far) for layer in body_linears(model).values()) > 0


def test_clipping_does_not_reach_the_decay():
    shrunk = {}
    for decay in (0.0, 10.0):
        method = Ast(decay=decay, ramp=0.1)
        model, optimizer = begun(method, steps=40)
        for number in range(1, 41):
            step(method, model, optimizer, number)  # with gradients clipped to a norm of 0.01
        shrunk[decay] = method.monitors(model, optimizer)["masked_mean"]
    assert shrunk[10.0] < 0.2 * shrunk[0.0]


def test_the_decay_rises_over_its_share_of_the_stage_and_is_reported():
    method = Ast(decay=0.5, ramp=0.2)
    model, optimizer = begun(method, steps=20)
    seen = []
    for number in range(1, 8):
        step(method, model, optimizer, number)
        seen.append(method.monitors(model, optimizer)["decay"])
    assert seen == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


def test_the_teachers_term_is_added_to_the_tasks():
    model, frozen = small(), small(seed=1)
    logits, soft = model(inputs()), frozen(inputs())
    terms = Ast().losses(model, None, None, {"logits": logits}, lambda batch: {"logits": soft})
    assert terms.keys() == {"kl"}
    assert torch.equal(terms["kl"], 0.5 * kl(logits, soft, temperature=2.0))
    assert [stage.teacher for stage in Ast().stages([Stage("train")])] == [None, "start", None]
    without = Ast(distill=0.0)
    assert without.losses(model, None, None, {"logits": logits}, None) == {}
    assert [stage.teacher for stage in without.stages([Stage("train")])] == [None, None, None]


def test_the_baked_model_has_the_last_mask_and_the_same_function():
    method = Ast(pattern="1:4", refresh=2)
    model, optimizer = begun(method, steps=5)
    for number in range(1, 6):
        step(method, model, optimizer, number)
    with torch.no_grad():
        before = model(inputs())
        method.finalize(model)
        assert torch.equal(model(inputs()), before)
    assert {fact.density for fact in method.ledger(model)} == {0.25}
    (check,) = method.verify(model, model)
    assert check.passed
    layer = model.get_submodule(LAYERS[0])
    assert parse("1:4").mask(layer.weight.abs(), None).sum() == (layer.weight != 0).sum()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pattern": "unstructured"}, "this method needs N:M"),
        ({"decay": -1.0}, "decay=-1.0"),
        ({"ramp": 2.0}, "ramp=2.0"),
        ({"refresh": 0}, "refresh=0"),
        ({"distill": -0.1}, "distill=-0.1"),
        ({"temperature": 0.0}, "temperature=0.0"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_weight_is_allocated(options, words):
    with torch.device("meta"):
        model = Small()
    problems = Ast(**options).requirements(model, None)
    assert any(words in problem for problem in problems), problems
    assert Ast().requirements(model, None) == []
