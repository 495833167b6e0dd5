"""LoRA: PEFT's adapters without PEFT's draws, trained alone, merged into plain layers."""

import math

import pytest
import torch
from small import Small, inputs, one_shot, small, train
from torch import nn

from gossamer.compression.lora import Lora, adapted
from gossamer.contract import Stage
from gossamer.models.parts import body_linears

ADAPTED = ["blocks.0.query", "blocks.0.value", "blocks.1.query", "blocks.1.value"]


def prepared(method: Lora) -> Small:
    model = small()
    method.prepare(model)
    return model


def tuned(method: Lora) -> Small:
    model = prepared(method)
    assert one_shot(method, model, "init") == ADAPTED
    train(method, model)
    return model


def test_prepare_draws_nothing_changes_nothing_and_can_be_repeated():
    state = small() and torch.get_rng_state()
    model = prepared(Lora(rank=2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(model(inputs()), small()(inputs()))
    again = prepared(Lora(rank=2))
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items()
    )
    assert list(adapted(model)) == ADAPTED and not hasattr(model, "peft_config")


def test_prepare_on_meta_gives_the_same_shapes():
    with torch.device("meta"):
        meta = Small()
    Lora(rank=2).prepare(meta)
    assert all(tensor.is_meta for tensor in meta.state_dict().values())
    assert {n: t.shape for n, t in meta.state_dict().items()} == {
        n: t.shape for n, t in prepared(Lora(rank=2)).state_dict().items()
    }


def test_init_draws_each_a_by_name_within_pefts_bound_and_leaves_the_function():
    model = prepared(Lora(rank=4))
    state = torch.get_rng_state()
    one_shot(Lora(rank=4), model, "init")
    assert torch.equal(state, torch.get_rng_state())
    draws = {name: layer.lora_A["default"].weight for name, layer in adapted(model).items()}
    for a in draws.values():  # Kaiming uniform with a = √5: U(-1/√in, 1/√in)
        assert a.shape == (4, 8) and 0 < a.abs().max() <= 1 / math.sqrt(8)
    assert not torch.equal(draws["blocks.0.query"], draws["blocks.0.value"])
    assert torch.equal(model(inputs()), small()(inputs()))
    fewer = prepared(Lora(rank=4, roles=("value",)))
    one_shot(Lora(rank=4, roles=("value",)), fewer, "init")
    value = adapted(fewer)["blocks.1.value"].lora_A["default"].weight
    assert torch.equal(value, draws["blocks.1.value"])  # whatever other roles are adapted


def test_init_skips_the_units_that_were_done():
    model = prepared(Lora(rank=2))
    done = frozenset(ADAPTED[:3])
    assert one_shot(Lora(rank=2), model, "init", done) == ADAPTED[3:]
    drawn = [name for name, layer in adapted(model).items() if layer.lora_A["default"].weight.any()]
    assert drawn == ADAPTED[3:]
    assert one_shot(Lora(rank=2), model, "another stage") == []


def test_only_the_adapters_and_the_head_train():
    method = Lora(rank=2)
    model = tuned(method)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == 4 * (2 * 8 + 8 * 2) + 3 * 8 + 3
    dense = small().state_dict()
    for name, tensor in model.state_dict().items():
        if "lora" not in name:
            same = torch.equal(tensor, dense[name.replace(".base_layer", "")])
            assert same != name.startswith("head"), name
    assert all(layer.lora_B["default"].weight.any() for layer in adapted(model).values())


def test_entering_a_stage_freezes_and_never_unfreezes():
    model = prepared(Lora(rank=2))
    model.head.requires_grad_(False)
    Lora(rank=2).enter(Stage("train"), model)
    assert all("lora_" in n for n, p in model.named_parameters() if p.requires_grad)


def test_merging_leaves_plain_layers_and_the_function():
    method = Lora(rank=2, alpha=6.0, dropout=0.3)
    model = tuned(method).eval()
    function = model(inputs())
    updates = {
        name: 3.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        for name, layer in adapted(model).items()
    }
    method.finalize(model)
    torch.testing.assert_close(model(inputs()), function, rtol=1e-5, atol=1e-5)
    assert set(model.state_dict()) == set(small().state_dict())
    for name, layer in body_linears(model).items():
        assert type(layer) is nn.Linear
        before = small().get_submodule(name).weight
        torch.testing.assert_close(layer.weight, before + updates.get(name, 0.0))
        assert not torch.equal(layer.weight, before) or name not in ADAPTED
    again = tuned(method)
    method.finalize(again)
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in model.state_dict().items())


def test_an_adapter_that_is_left_fails_the_check():
    method = Lora(rank=2)
    model = tuned(method)
    (check,) = method.verify(model, model)
    assert not check.passed and check.figure == "4 adapters left, 4 layers adapted"
    method.finalize(model)
    (check,) = method.verify(model, model)
    assert check.passed and check.figure == "0 adapters left, 4 layers adapted"


def test_the_ledger_names_the_adapted_layers_and_why_the_others_are_not():
    method = Lora(rank=2)
    model = tuned(method)
    method.finalize(model)
    facts = {fact.name: fact for fact in method.ledger(model)}
    assert list(facts) == list(model.parts.linear)
    assert [name for name, fact in facts.items() if fact.changed] == ADAPTED
    assert facts["blocks.0.query"].pattern == "low-rank 2 merged"
    assert facts["blocks.0.query"].density == 1 and facts["blocks.0.query"].macs == 64
    assert facts["blocks.0.up"].skipped == "up is not in roles"


def test_the_tasks_own_stages_train_the_adapters():
    training = [Stage("policy", 0.25, lr=1e-3), Stage("imitation", 0.75, schedule="constant")]
    plan = Lora(lr=5e-4).stages(training)
    assert plan[0] == Stage("init", 0.0)
    assert plan[1:] == [
        Stage("policy", 0.25, lr=5e-4),
        Stage("imitation", 0.75, lr=5e-4, schedule="constant"),
    ]
    assert Lora(lr=None).stages(training)[1:] == training


def test_a_path_is_adapted_only_where_it_is_the_whole_path():
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = small().blocks
            self.teacher = nn.ModuleDict({"blocks": small().blocks})  # teacher.blocks.0.query …
            self.parts = small().parts

    model = Outer()
    Lora(rank=2).prepare(model)
    assert all(
        type(layer) is nn.Linear
        for layer in model.teacher.modules()
        if "Linear" in str(type(layer))
    )
    assert list(adapted(model)) == ADAPTED


def test_merging_would_fill_earlier_zeros_so_it_keeps_none():
    assert "sparse weights" not in Lora.keeps


@pytest.mark.parametrize(
    "options, words",
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": 9}, "blocks.0.query is (8, 8), whose rank is at most 8; set rank=8 or less"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"roles": ("quary",)}, "roles=('quary',): no role"),
        ({"roles": ("attention_output",)}, "no linear layer of this model has such a role"),
        ({"roles": ()}, "no linear layer of this model has such a role"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_weight_is_allocated(options, words):
    with torch.device("meta"):
        model = Small()
    problems = Lora(**{"rank": 4, **options}).requirements(model, None)
    assert any(words in problem for problem in problems), problems
    assert Lora(rank=4).requirements(model, None) == []
