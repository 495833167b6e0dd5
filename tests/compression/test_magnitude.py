"""Magnitude pruning: exact zeros that survive training, checks that can fail, a true ledger."""

import re
import textwrap
from pathlib import Path

import pytest
import torch
from small import Small, inputs, one_shot, small, train

from gossamer.compression.lora import Lora
from gossamer.compression.magnitude import THRESHOLD, Magnitude
from gossamer.contract import Stage
from gossamer.models.parts import body_linears
from gossamer.sparsity import masks

ROOT = Path(__file__).parents[2]
TOTAL = sum(layer.weight.numel() for layer in body_linears(small()).values())  # 896


def pruned(method: Magnitude, model: Small | None = None) -> Small:
    model = model or small()
    method.prepare(model)
    assert one_shot(method, model, "prune") == [THRESHOLD]
    return model


def zeros(model) -> int:
    return sum(int((layer.weight == 0).sum()) for layer in body_linears(model).values())


def test_a_global_threshold_zeroes_exactly_the_smallest_weights_of_the_body():
    dense = small()
    ranked = torch.cat([layer.weight.flatten() for layer in body_linears(dense).values()]).abs()
    cut = ranked.sort().values[round(0.7 * TOTAL)]
    model = pruned(Magnitude(sparsity=0.7))
    for name, layer in body_linears(model).items():
        before = dense.get_submodule(name).weight
        assert torch.equal(layer.weight, torch.where(before.abs() >= cut, before, 0.0))
    assert zeros(model) == round(0.7 * TOTAL)
    for name in ("head.weight", "embeddings.weight", "blocks.0.up.bias"):
        assert torch.equal(model.get_parameter(name), dense.get_parameter(name))


@pytest.mark.parametrize("pattern", ["unstructured", "block:2x4", "row", "column"])
@pytest.mark.parametrize("distribution", ["global", "uniform", "erk"])
def test_training_and_finalizing_keep_the_zeros_and_every_check_passes(pattern, distribution):
    method = Magnitude(0.5, pattern, distribution)
    model = pruned(method)
    before = zeros(model)
    train(method, model)
    function = model(inputs())
    method.finalize(model)
    assert torch.equal(model(inputs()), function)
    assert zeros(model) == before and abs(before - TOTAL / 2) <= 16
    assert not list(masks.masked(model)) and set(model.state_dict()) == set(small().state_dict())
    checks = method.verify(model, model)
    assert checks and all(check.passed for check in checks), checks


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "3:8"])
def test_n_of_m_leaves_exactly_n_in_every_group(pattern):
    n, m = (int(number) for number in pattern.split(":"))
    method = Magnitude(1 - n / m, pattern)
    assert method.requirements(small(), None) == []
    model = pruned(method)
    train(method, model)
    method.finalize(model)
    for layer in body_linears(model).values():
        assert ((layer.weight != 0).reshape(-1, m).sum(dim=1) == n).all()
    (check,) = method.verify(model, model)
    assert check.passed and f"at most {n} of every {m}" in check.figure
    assert {fact.target for fact in method.ledger(model)} == {n / m}


@pytest.mark.parametrize(
    "method", [Magnitude(), Magnitude(pattern="2:4"), Magnitude(distribution="uniform")]
)
def test_one_weight_too_many_fails_the_check(method):
    model = pruned(method)
    method.finalize(model)
    weight = model.blocks[0].up.weight
    with torch.no_grad():
        weight[tuple((weight == 0).nonzero()[0])] = 1e-6
    assert not all(check.passed for check in method.verify(model, model))


def test_weights_train_while_they_are_pruned():
    method = Magnitude()
    model = pruned(method)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(method, model)
    for name, parameter in model.named_parameters():
        if name != "embeddings.weight" and not name.endswith("key.bias"):  # no gradient by softmax
            assert not torch.equal(parameter, before[name]), name


def test_a_second_run_of_the_stage_after_its_unit_changes_nothing():
    method = Magnitude()
    model = pruned(method)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert one_shot(method, model, "prune", done=frozenset({THRESHOLD})) == []
    assert one_shot(method, model, "another stage") == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_zeros_of_an_earlier_method_are_pruned_first():
    model = small()
    with torch.no_grad():
        for layer in body_linears(model).values():
            layer.weight[::4] = 0  # 25% of the rows
    earlier = {name: layer.weight == 0 for name, layer in body_linears(model).items()}
    pruned(Magnitude(0.5), model)
    assert zeros(model) == TOTAL // 2
    assert all((model.get_submodule(n).weight[zero] == 0).all() for n, zero in earlier.items())


def test_more_zeros_than_the_target_are_kept_and_pass():
    model = pruned(Magnitude(0.8))
    Magnitude(0.8).finalize(model)
    pruned(Magnitude(0.5), model)
    assert zeros(model) == round(0.8 * TOTAL)
    assert all(check.passed for check in Magnitude(0.5).verify(model, model))


def test_it_prunes_what_lora_merged():
    model, lora, method = small(), Lora(rank=2), Magnitude(0.6)
    lora.prepare(model)
    one_shot(lora, model, "init")
    train(lora, model)
    lora.finalize(model)
    pruned(method, model)
    train(method, model)
    method.finalize(model)
    assert zeros(model) == round(0.6 * TOTAL)
    for check in (*lora.verify(model, model), *method.verify(model, model)):
        assert check.passed, check
    assert lora.ledger(model)[0].density < 1  # it tells what is there, also after a later method


def test_only_the_chosen_roles_are_pruned_and_the_ledger_says_why():
    method = Magnitude(roles=["up", "down"])
    model = pruned(method)
    method.finalize(model)
    facts = {fact.name: fact for fact in method.ledger(model)}
    assert list(facts) == list(model.parts.linear)
    assert facts["blocks.0.query"].skipped == "query is not in roles"
    assert not facts["blocks.0.query"].changed and facts["blocks.0.query"].density == 1
    for name in ("blocks.0.up", "blocks.1.down"):
        weight = model.get_submodule(name).weight
        assert facts[name].changed and facts[name].skipped is None and facts[name].bits == 32
        assert facts[name].macs == int(weight.count_nonzero())
        assert facts[name].density == facts[name].macs / weight.numel() < 1


def test_declared_densities_are_those_of_the_layer_or_of_the_group():
    model = pruned(Magnitude(0.25, distribution="uniform"))
    facts = Magnitude(0.25, distribution="uniform").ledger(model)
    assert all(fact.target == fact.density == 0.75 for fact in facts)
    facts = Magnitude(0.3).ledger(pruned(Magnitude(0.3)))
    assert {fact.target for fact in facts} == {0.7}
    assert sum(fact.macs for fact in facts) == TOTAL - round(0.3 * TOTAL)
    erk = pruned(Magnitude(0.5, distribution="erk"))
    facts = Magnitude(0.5, distribution="erk").ledger(erk)
    assert all(fact.target == fact.density for fact in facts)
    assert sum(fact.macs for fact in facts) == TOTAL // 2


def test_prepare_draws_nothing_changes_nothing_and_works_on_meta():
    model, state = small(), torch.get_rng_state()
    before = model(inputs())
    Magnitude().prepare(model)
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(before, model(inputs()))
    with torch.device("meta"):
        meta = Small()
    Magnitude().prepare(meta)
    assert {n: t.shape for n, t in meta.state_dict().items()} == {
        n: t.shape for n, t in model.state_dict().items()
    }


def test_recovery_follows_the_pruning_and_the_other_steps_precede_it():
    training = [Stage("first", 0.25), Stage("cache", 0.0), Stage("second", 0.75, lr=1e-3)]

    def plan(**options):
        return [(s.name, s.share, s.lr) for s in Magnitude(**options).stages(training)]

    assert plan(lr=0.5) == [
        ("prune", 0.0, None),
        ("first", 0.25, 0.5),
        ("cache", 0.0, 0.5),
        ("second", 0.75, 0.5),
    ]
    assert plan(recover=0.5, lr=0.5) == [
        ("first", 0.125, None),
        ("cache", 0.0, None),
        ("second", 0.375, 1e-3),
        ("prune", 0.0, None),
        ("first", 0.125, 0.5),
        ("second", 0.375, 0.5),
    ]
    assert plan(recover=0.0) == [
        ("first", 0.25, None),
        ("cache", 0.0, None),
        ("second", 0.75, 1e-3),
        ("prune", 0.0, None),
    ]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"sparsity": 1.0}, "sparsity=1.0: a share between 0 and 1"),
        ({"sparsity": float("nan")}, "sparsity=nan"),
        ({"recover": 2.0}, "recover=2.0"),
        ({"distribution": "locally"}, "choose global, uniform, erk"),
        ({"pattern": "2:3:4"}, "pattern='2:3:4'"),
        ({"roles": ("quary",)}, "roles=('quary',): no role"),
        ({"roles": ("attention_output",)}, "no linear layer of this model has such a role"),
        ({"pattern": "1:4"}, "set sparsity=0.75"),
        ({"pattern": "2:4", "distribution": "erk"}, "set uniform"),
        ({"pattern": "3:6"}, "blocks.0.query has 8 input features, not a multiple of 6"),
        ({"pattern": "block:16x8"}, "blocks.1.down has 8x16 does not divide into 16x8 blocks"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_weight_is_allocated(options, words):
    with torch.device("meta"):
        model = Small()
    problems = Magnitude(**options).requirements(model, None)
    assert any(words in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)
    assert Magnitude().requirements(model, None) == []


def code_blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def flush_left(text: str) -> str:
    return textwrap.dedent(text).strip()


def test_the_walk_through_shows_the_code_as_it_is():
    """Every block of docs/add-a-method.md is a run of whole lines of a file of this repository."""
    files = [
        "src/gossamer/compression/magnitude.py",
        "src/gossamer/models/sparse_body.py",
        "src/gossamer/models/verbs.py",
        "src/gossamer/sparsity/ledger.py",
        "src/gossamer/sparsity/masks.py",
        "conf/compression/magnitude.yaml",
        "tests/compression/test_magnitude.py",
    ]
    sources = [(ROOT / file).read_text().splitlines() for file in files]
    blocks = code_blocks("add-a-method.md", "python") + code_blocks("add-a-method.md", "yaml")
    assert len(blocks) >= 8
    for block in blocks:
        lines = block.strip("\n").splitlines()
        runs = (
            flush_left("\n".join(source[start : start + len(lines)]))
            for source in sources
            for start in range(len(source))
        )
        assert flush_left(block) in runs, f"not in any source file:\n{block}"
