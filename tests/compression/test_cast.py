"""CAST on a model small enough to see everything (T13 … T18 of its notes; the optimizer's own
invariants are in tests/sparsity/test_adams.py, resuming in the contract table)."""

import copy
from types import SimpleNamespace

import pytest
import torch
from small import Small, enter, inputs, one_shot, small
from torch import nn

from gossamer.compression.cast import Cast
from gossamer.contract import Stage
from gossamer.distillation import kl
from gossamer.models.parts import body_linears
from gossamer.sparsity.scaling import ScaledLinear

LABELS = torch.arange(16) % 3
STEPS, LR = 200, 5e-3
LAYERS = list(body_linears(small()))


class Task:
    """Cross-entropy, with the verbs that a method asks for."""

    def forward(self, model, batch):
        return {"logits": model(batch)}

    def losses(self, model, task, batch, output, teacher):
        return {"task": nn.functional.cross_entropy(output["logits"], LABELS)}


def trained(method: Cast, model: Small, steps: int = STEPS, begin: int = 0) -> SimpleNamespace:
    """A trained stage as the engine does it, with a linear learning rate; figures of every step."""
    frozen = copy.deepcopy(model)
    method.prepare(model)
    stage = Stage("train", steps=steps, lr=LR)
    enter(method, stage, model)
    optimizer = method.optimizer(list(model.named_parameters()), stage)
    task, seen = Task(), []
    teacher = (lambda batch: task.forward(frozen, batch)) if method.distill else None
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / steps)
        output = task.forward(model, inputs())
        terms = task.losses(model, task, inputs(), output, None)
        terms |= method.losses(model, task, inputs(), output, teacher)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        seen.append(method.monitors(model, optimizer))
    return SimpleNamespace(seen=seen, optimizer=optimizer, model=model)


@pytest.fixture(scope="module")
def done() -> SimpleNamespace:
    method = Cast(decay=None)
    run = trained(method, small())
    run.method = method
    return run


def test_masked_weights_vanish_while_the_forward_pass_stays_dense(done):
    """T17: the median ends within ten last steps of the learning rate; the largest is reported."""
    ratios = [seen["sparse_weight_ratio"] for seen in done.seen]
    assert ratios[0] < 0.95 and ratios[-1] >= 0.99
    assert ratios[-1] > ratios[STEPS // 2] > ratios[0]
    last = done.seen[-1]
    assert 0 < last["masked_median"] <= 10 * LR / STEPS
    assert last["masked_median"] <= last["masked_max"] and last["masked_mean"] > 0
    assert all(bool((layer.weight != 0).all()) for layer in body_linears(done.model).values())


def test_masks_change_and_then_settle(done):
    """T18"""
    flips = [seen["flips"] for seen in done.seen]
    assert flips[0] == 0 and done.seen[-1]["flips_so_far"] > 0
    assert sum(flips[-20:]) <= sum(flips[10:30])
    last = done.seen[-1]
    total = sum(layer.weight.numel() for layer in body_linears(done.model).values())
    assert last["flip_share"] == last["flips"] / total


def test_a_decay_that_is_not_given_is_measured_once_and_reported(done):
    (value,) = {seen["decay"] for seen in done.seen}
    assert 1e-6 < value < 1
    (given,) = {seen["decay"] for seen in trained(Cast(decay=0.25), small(), 3).seen}
    assert given == 0.25


@torch.no_grad()
def test_the_last_pruning_moves_the_output_by_no_more_than_what_it_drops(done):
    """T14 and T15"""
    model = copy.deepcopy(done.model)
    path, layer = next((p, m) for p, m in body_linears(model).items() if p.endswith("up"))
    x = torch.randn(7, layer.in_features, generator=torch.Generator().manual_seed(2))
    before, weight = layer(x), layer.weight.clone()
    assert one_shot(done.method, model, "prune") == LAYERS
    pruned = layer(x)
    dropped = (weight - layer.weight) * layer.scale.repeat_interleave(4, dim=1)
    assert 0 < (before - pruned).norm() <= x.norm() * dropped.norm()
    done.method.finalize(model)
    plain = model.get_submodule(path)
    assert type(plain) is nn.Linear
    assert (plain(x) - pruned).abs().max() <= 1e-6
    (check,) = done.method.verify(model, model)
    assert check.passed
    for fact in done.method.ledger(model):
        assert (fact.pattern, fact.density, fact.target) == ("2:4", 0.5, 0.5)
    plain.weight[0, :3] = 1.0
    (check,) = done.method.verify(model, model)
    assert not check.passed


def test_a_pruning_that_was_cut_goes_on_with_the_layers_that_are_left(done):
    model = copy.deepcopy(done.model)
    assert one_shot(done.method, model, "prune", frozenset(LAYERS[:4])) == LAYERS[4:]
    assert one_shot(done.method, model, "train") == []


def test_the_teachers_share_and_the_tasks_add_to_one():
    """T16"""
    model, frozen, task = small(), small(seed=1), Task()
    output, soft = task.forward(model, inputs()), task.forward(frozen, inputs())
    hard = task.losses(model, task, inputs(), output, None)["task"]
    method = Cast(distill=0.25, temperature=2.0)
    terms = method.losses(model, task, inputs(), output, lambda batch: soft)
    assert torch.equal(terms["task"], 0.75 * hard)
    assert torch.equal(terms["kl"], 0.25 * kl(output["logits"], soft["logits"], 2.0))
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_without_a_share_there_is_no_teacher():
    """T16: η = 0 is the task's loss alone, and no pass of a teacher is paid for."""
    method = Cast(distill=0.0)
    assert [stage.teacher for stage in method.stages([Stage("train")])] == [None, None]
    assert method.losses(None, Task(), None, None, None) == {}


def test_everything_that_is_trained_is_kept_and_pruned_once_at_the_end():
    training = [Stage("first", 0.25), Stage("cache", 0.0), Stage("second", 0.75, lr=1e-3)]
    seen = [(s.name, s.share, s.lr, s.teacher) for s in Cast().stages(training)]
    assert seen == [
        ("first", 0.25, None, "start"),
        ("cache", 0.0, None, None),
        ("second", 0.75, 1e-3, "start"),
        ("prune", 0.0, None, None),
    ]
    assert [s.lr for s in Cast(lr=0.5).stages(training)] == [0.5, None, 0.5, None]


def test_the_bodys_weights_are_sparse_and_the_rest_gets_plain_adam():
    method, model = Cast(roles=("query", "up"), weight_decay=0.1), small()
    method.prepare(model)
    stage = Stage("train", steps=20, lr=LR)
    enter(method, stage, model)
    sparse, rest, scales = method.optimizer(list(model.named_parameters()), stage).param_groups
    chosen = body_linears(model, ("query", "up")).values()
    assert list(map(id, sparse["params"])) == [id(layer.weight) for layer in chosen]
    assert list(map(id, scales["params"])) == [id(layer.scale) for layer in chosen]
    counted = sum(len(group["params"]) for group in (sparse, rest, scales))
    assert counted == len(list(model.parameters()))
    assert (sparse["sparse"], rest["sparse"], scales["sparse"]) == (True, False, False)
    assert (sparse["total_steps"], sparse["betas"], sparse["lr"]) == (20, (0.9, 0.95), LR)
    assert (sparse["weight_decay"], scales["weight_decay"]) == (0.1, 0.0)
    skipped = [fact.skipped for fact in method.ledger(model) if fact.skipped]
    assert skipped == ["key is not in roles", "value is not in roles", "down is not in roles"] * 2


def test_scales_are_of_every_block_of_a_row_or_of_none():
    model = small()
    Cast(scales=2).prepare(model)
    assert {tuple(m.scale.shape) for m in body_linears(model).values()} == {(8, 2), (16, 2)}
    model = small()
    Cast(scales=0).prepare(model)
    assert not any(isinstance(module, ScaledLinear) for module in model.modules())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pattern": "unstructured"}, "pattern=unstructured: this method needs N:M"),
        ({"pattern": "2:3:4"}, "pattern='2:3:4'"),
        ({"pattern": "3:6"}, "blocks.0.query has 8 input features, not a multiple of 6"),
        ({"roles": ("quary",)}, "roles=('quary',): no role"),
        ({"refresh": 0}, "refresh=0"),
        ({"distill": 1.5}, "distill=1.5"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"decay": -1.0}, "decay=-1.0"),
        ({"scales": -1}, "scales=-1"),
        ({"scales": 3}, "scales=3: blocks.0.query has 8 input features"),
        ({"scales": 4}, "do not divide into 4 blocks of whole groups of 4; set scales=1 or 0"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_weight_is_allocated(options, words):
    with torch.device("meta"):
        model = Small()
    problems = Cast(**options).requirements(model, None)
    assert any(words in problem for problem in problems), problems
    assert all("\n" not in problem and "set pattern" not in problem for problem in problems)
    assert Cast().requirements(model, None) == []


def test_weights_in_which_steps_would_be_lost_are_refused():
    """T12"""
    with torch.device("meta"):
        model = Small().bfloat16()
    problems = Cast().requirements(model, None)
    assert len(problems) == len(LAYERS)
    assert "set trainer.precision=bf16-mixed" in problems[0]
