"""DSEE as the engine drives it: stages, what trains, resuming, the ledger, the exported model."""

import copy
import inspect

import pytest
import torch
import yaml
from torch import nn

from gossamer.compression.dsee import DSEE, AdaptedLinear, SideBranchLinear
from gossamer.contract import Stage
from gossamer.models.parts import body_linears, parts_of

from .built import CONF, build, finished, logits, one_shot, small, staged, train, tuned

ADAPTED = ("query", "value")
STRUCTURED = {"heads": 0.25, "neurons": 0.25}


@pytest.fixture(params=["bert_tiny", "minilm"])
def choice(request) -> str:
    return request.param


def test_the_yaml_lists_the_signature_with_its_defaults():
    text = (CONF.parent / "compression" / "dsee.yaml").read_text()
    node = yaml.safe_load(text)
    assert text.startswith("# @package compression.dsee\n")
    assert node.pop("_target_") == f"{DSEE.__module__}.{DSEE.__qualname__}"
    defaults = {n: p.default for n, p in inspect.signature(DSEE).parameters.items()}
    assert node == defaults | {"roles": list(defaults["roles"])}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {"support": 0, "tune": 0.5, "prune": 0, "recover": 0.5}),
        ({"tune": 0.25}, {"support": 0, "tune": 0.25, "prune": 0, "recover": 0.75}),
        ({"tune": 1.0}, {"support": 0, "tune": 1, "prune": 0}),
        ({"tune": 0.0, "score": "weight"}, {"support": 0, "prune": 0, "recover": 1}),
        ({"sparsity": 0.0}, {"support": 0, "tune": 1}),
        ({"sparsity": 0.0, "heads": 0.5}, {"support": 0, "tune": 0.5, "prune": 0, "recover": 0.5}),
        (
            {"sparsity": 0.0, "update_sparsity": 0.5},
            {"support": 0, "tune": 0.5, "prune": 0, "recover": 0.5},
        ),
    ],
)
def test_stages_follow_what_is_pruned_and_when(arguments, expected):
    stages = DSEE(**arguments).stages([Stage("train")])
    assert {stage.name: stage.share for stage in stages} == expected
    assert {stage.lr for stage in stages if stage.share} == {1e-3}


def test_what_the_task_says_of_its_training_holds_for_tuning_and_recovery():
    training = [Stage("train", lr=1.0, schedule="constant", ema=0.9, monitor="accuracy")]
    _, tune, _, recover = DSEE(tune=0.25).stages(training)
    for stage in (tune, recover):
        assert (stage.schedule, stage.ema, stage.monitor) == ("constant", 0.9, "accuracy")
        assert stage.lr == 1e-3
    parts = [Stage("tokens", share=0.0), Stage("a", share=0.25), Stage("b", share=0.75)]
    stages = {stage.name: stage.share for stage in DSEE(tune=0.5).stages(parts)}
    assert list(stages.items()) == [
        ("tokens", 0.0),
        ("support", 0.0),
        ("tune a", 0.125),
        ("tune b", 0.375),
        ("prune", 0.0),
        ("recover a", 0.125),
        ("recover b", 0.375),
    ]


def test_preparing_and_finding_the_support_leave_the_model_as_it_was_bit_for_bit(choice):  # T1
    model = build(choice)
    expected = logits(model)
    method = DSEE(**STRUCTURED)
    method.prepare(model)
    assert torch.equal(logits(model), expected)
    assert one_shot(method, model, "support") == list(body_linears(model, ADAPTED))
    assert torch.equal(logits(model), expected)
    for module in body_linears(model, ADAPTED).values():  # T4
        assert module.indices.unique().numel() == 64
        assert not module.U.any() and not module.values.any()
        assert float(module.V.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_preparing_draws_no_number():
    model = small()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    DSEE(**STRUCTURED).prepare(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_interrupted_support_stage_goes_on_and_ends_bit_for_bit_the_same():  # T6
    method = DSEE()
    whole, broken = small(), small()
    method.prepare(whole)
    method.prepare(broken)
    stage = staged(method)["support"]
    units = one_shot(method, whole, "support")
    work = method.apply(stage, broken, [], frozenset())
    done = [next(work) for _ in range(3)]
    work.close()
    resumed = small(seed=9)  # other starting weights: what is done must come from the saved state
    method.prepare(resumed)
    resumed.load_state_dict(broken.state_dict())
    assert one_shot(method, resumed, "support", done) == units[3:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_support_is_restored_from_a_checkpoint_and_later_stages_never_touch_it():  # T6
    method = DSEE()
    model = tuned(method, small())
    support = {path: m.indices.clone() for path, m in body_linears(model, ADAPTED).items()}
    again = small()
    method.prepare(again)
    again.load_state_dict(model.state_dict(), strict=True)
    one_shot(method, again, "prune")
    train(method, again, "recover")
    for path, module in body_linears(again, ADAPTED).items():
        assert torch.equal(module.indices, support[path])


def test_an_interrupted_prune_stage_goes_on_and_ends_bit_for_bit_the_same():
    method = DSEE(**STRUCTURED)
    whole = tuned(method, small())
    broken = copy.deepcopy(whole)
    assert one_shot(method, whole, "prune") == ["structure", "weights"]
    work = method.apply(staged(method)["prune"], broken, [], frozenset())
    done = [next(work)]
    work.close()
    resumed = small(seed=9)
    method.prepare(resumed)
    resumed.load_state_dict(broken.state_dict())
    assert one_shot(method, resumed, "prune", done) == ["weights"]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_only_the_update_and_the_head_train_and_all_else_stays_bit_for_bit(choice):  # T7
    start = build(choice).state_dict()
    method = DSEE()
    model = tuned(method, build(choice))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    kinds = {name.rpartition(".")[2] for name in trained if not name.startswith("classifier")}
    assert kinds == {"U", "V", "values"}
    layers = body_linears(model, ADAPTED).values()
    update = sum(p.numel() for m in layers for p in (m.U, m.V, m.values))
    expected = sum(16 * sum(m.weight.shape) + 64 for m in layers)
    head = sum(p.numel() for p in model.classifier.parameters())
    assert update == expected
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == update + head
    state = model.state_dict()
    for name, tensor in start.items():
        assert torch.equal(state[name], tensor) != name.startswith("classifier"), name
    for module in layers:
        residual = module.update() - module.scale * (module.U @ module.V)
        outside = torch.ones(module.weight.numel(), dtype=torch.bool)
        outside[module.indices] = False
        assert residual.flatten()[outside].abs().max() < 1e-6
        assert bool((module.values != 0).all())


@pytest.mark.parametrize("structure", [{}, STRUCTURED], ids=["unstructured", "structured"])
@pytest.mark.parametrize("deploy", ["merged", "side_branch"])
def test_a_finished_model_keeps_its_function_and_passes_its_checks(choice, deploy, structure):
    method = DSEE(deploy=deploy, **structure)
    model = tuned(method, build(choice))
    one_shot(method, model, "prune")
    train(method, model, "recover", steps=1)
    expected = logits(model)
    method.finalize(model)
    torch.testing.assert_close(logits(model), expected, atol=2e-5, rtol=2e-5)
    assert not any(isinstance(module, AdaptedLinear) for module in model.modules())
    kind = nn.Linear if deploy == "merged" else SideBranchLinear
    assert {type(module) for module in body_linears(model, ADAPTED).values()} == {kind}
    assert not any(name.endswith(("weight_mask", "gate", "kept")) for name in model.state_dict())
    checks = method.verify(model, copy.deepcopy(model))
    assert all(check.passed for check in checks), checks
    assert len(checks) == 2 + 2 * bool(structure) + (deploy == "side_branch")


def test_the_ledger_tells_the_sparsity_of_w_and_of_merged_w_apart():  # T14
    rows = {}
    for deploy in ("merged", "side_branch"):
        method = DSEE(sparsity=0.5, update_sparsity=0.3, deploy=deploy)
        model = finished(method, small())
        parts = parts_of(model)
        rows[deploy] = {row.name: row for row in method.ledger(model)}
        assert list(rows[deploy]) == list(parts.linear)
        assert all(row.changed and not row.skipped for row in rows[deploy].values())
        figures = [check.figure for check in method.verify(model, model)]
        assert any("(50.00%)" in figure for figure in figures)
        assert any("(30.00%); W'" in figure and "0.00% zeros" in figure for figure in figures)
        others = [row for row in rows[deploy].values() if parts.linear[row.name] not in ADAPTED]
        weights = sum(row.shape[0] * row.shape[1] for row in others)
        kept = sum(row.density * row.shape[0] * row.shape[1] for row in others)
        assert kept == pytest.approx(0.5 * weights, abs=1)
        assert {(row.pattern, row.target) for row in others} == {("unstructured", 0.5)}
    for name, merged in rows["merged"].items():
        side = rows["side_branch"][name]
        if parts.linear[name] in ADAPTED:
            assert merged.density > 0.99
            hidden = f"dense, merged over a {1 - side.density:.1%} sparse W"
            assert (merged.pattern, side.pattern) == (hidden, "unstructured")
            assert (merged.target, side.target) == (None, 0.7)
            layer = model.get_submodule(name)
            branches = layer.U.numel() + layer.V.numel() + layer.values.numel()
            assert side.macs == int((layer.weight != 0).sum()) + branches
            assert side.bits > merged.bits == 32.0
        else:
            assert merged == side


def test_the_ledger_names_what_was_left_alone_and_why():
    method = DSEE(sparsity=0.0)
    model = small()
    method.prepare(model)
    one_shot(method, model, "support")
    train(method, model, "tune")
    method.finalize(model)
    rows = method.ledger(model)
    left = {row.name for row in rows if row.skipped}
    assert left == set(body_linears(model)) - set(body_linears(model, ADAPTED))
    assert all(row.changed != (row.name in left) for row in rows)
    assert all(row.density == 1.0 for row in rows)
    assert method.verify(model, model) == []


def test_verify_sees_a_changed_weight_a_filled_zero_and_a_missing_head():
    method = DSEE(**STRUCTURED, deploy="side_branch")
    model = finished(method, small())
    failed = lambda other: {c.name for c in method.verify(other, model) if not c.passed}  # noqa: E731
    assert failed(copy.deepcopy(model)) == set()
    other = copy.deepcopy(model)
    weight = body_linears(other, ["key"]).popitem()[1].weight
    weight[weight == 0] = 1e-3
    assert failed(other) == {"sparsity of W without update"}
    other = copy.deepcopy(model)
    layer = body_linears(other, ADAPTED).popitem()[1]
    layer.weight.fill_(1.0)
    layer.indices.fill_(3)
    assert failed(other) == {
        "sparsity of W with update",
        "support of S2",
    }
    other = copy.deepcopy(model)
    units = parts_of(other).units[0]
    other.get_submodule(units.block).attention.self.num_attention_heads = 4
    assert failed(other) == {"heads removed"}
    less = DSEE(heads=0.5, neurons=0.5)
    assert {c.name for c in less.verify(model, model) if not c.passed} >= {
        "heads removed",
        "neurons removed",
    }


def test_what_is_produced_and_kept_follows_the_deployment():
    zeros = frozenset({"sparse weights"})
    assert DSEE().produces == zeros and DSEE().keeps == frozenset()
    assert DSEE(sparsity=0.0).produces == frozenset()
    own = {"sparsity": 0.0, "update_sparsity": 0.5}
    assert DSEE(**own).produces == frozenset()  # merging fills these zeros in
    assert DSEE(**own, deploy="side_branch").produces == zeros
    assert DSEE(deploy="side_branch").keeps == zeros
    assert DSEE(deploy="side_branch", heads=0.25).keeps == frozenset()
