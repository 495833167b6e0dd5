"""Wanda, SparseGPT and a fixed mask on a LLaMA: against the published procedure written out, with
raw activations of the whole model."""

import copy

import pytest
import torch
from torch import Tensor, nn

from gossamer.compression.fixed_mask import FixedMask
from gossamer.compression.sparsegpt import SparseGpt
from gossamer.compression.wanda import Wanda
from gossamer.contract import Stage
from gossamer.data.info import DataInfo
from gossamer.errors import DataError
from gossamer.models import calibration
from gossamer.models.parts import body_linears, parts_of
from gossamer.sparsity.obs import sparsegpt
from gossamer.sparsity.patterns import parse
from gossamer.sparsity.statistics import InputNorm
from tests.models.decoders import llama, windows
from tests.models.encoders import batch, built, randomised, saved

PRUNE = Stage("prune", share=0.0, seed=7)
BLOCKS = [f"model.layers.{index}" for index in range(3)]
METHODS = {
    "wanda": lambda **other: Wanda(samples=6, **other),
    "wanda, unstructured": lambda **other: Wanda("unstructured", 0.4, samples=6, **other),
    "sparsegpt": lambda **other: SparseGpt(samples=6, block=8, **other),
    "sparsegpt, unstructured": lambda **other: SparseGpt("unstructured", 0.4, 6, 8, **other),
    "fixed_mask, wanda": lambda **other: FixedMask("wanda", samples=6, **other),
}
every_method = pytest.mark.parametrize("name", METHODS)


def pruned(method, model: nn.Module, done=frozenset()) -> list[str]:
    method.prepare(model)
    return list(method.apply(PRUNE, model, windows(), done))


@torch.no_grad()
def raw_inputs(model: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    """(tokens, in) float64: what each layer is fed by six windows in the whole model."""
    seen: dict[str, list[Tensor]] = {path: [] for path in layers}
    handles = [
        model.get_submodule(path).register_forward_pre_hook(
            lambda _, x, path=path: seen[path].append(x[0].flatten(0, 1).double())
        )
        for path in layers
    ]
    model(torch.cat([one["input_ids"] for one in windows()])[:6], use_cache=False)
    for handle in handles:
        handle.remove()
    return {path: torch.cat(parts) for path, parts in seen.items()}


@torch.no_grad()
def by_the_paper(model: nn.Module, prune) -> nn.Module:
    """Block by block: inputs from the model as it is by then, then prune(weight, x) each layer."""
    for block in parts_of(model).blocks:
        layers = [path for path in parts_of(model).linear if path.startswith(f"{block}.")]
        for path, x in raw_inputs(model, layers).items():
            weight = model.get_submodule(path).weight
            weight.copy_(prune(weight.double(), x))
    return model


def wanda_rule(keep_of_width):
    def prune(weight: Tensor, x: Tensor) -> Tensor:
        score = weight.abs() * x.square().sum(0).sqrt()
        groups = score.reshape(len(weight), -1, keep_of_width[1] or score.shape[1])
        keep = keep_of_width[0] or score.shape[1] - round(0.4 * score.shape[1])
        mask = torch.zeros_like(groups).scatter_(2, groups.topk(keep, dim=2).indices, 1.0)
        return weight * mask.reshape(weight.shape)

    return prune


@pytest.mark.parametrize(
    ("name", "rule"),
    [("wanda", (2, 4)), ("wanda, unstructured", (0, 0)), ("fixed_mask, wanda", (2, 4))],
)
def test_wanda_is_its_formula_on_the_inputs_that_pruned_blocks_give(name, rule):
    model = llama()
    assert pruned(METHODS[name](), model) == BLOCKS
    want = by_the_paper(llama(), wanda_rule(rule))
    for path, layer in body_linears(model).items():
        assert torch.equal(layer.weight, want.get_submodule(path).weight), path
    naive = llama()  # had all inputs come from the dense model, other weights would have gone
    dense = raw_inputs(naive, list(parts_of(naive).linear))
    rule = wanda_rule(rule)
    assert any(
        not torch.equal(layer.weight, rule(naive.get_submodule(path).weight.double(), dense[path]))
        for path, layer in body_linears(model).items()
    )


@pytest.mark.parametrize("pattern", ["2:4", "unstructured"])
def test_sparsegpt_solves_each_layer_on_the_inputs_that_pruned_blocks_give(pattern):
    sparsity = 0.5 if pattern == "2:4" else 0.4
    model = llama()
    assert pruned(SparseGpt(pattern, sparsity, samples=6, block=8), model) == BLOCKS

    def prune(weight: Tensor, x: Tensor) -> Tensor:
        return sparsegpt(weight, 2 / len(x) * x.T @ x, parse(pattern), sparsity, block=8)[0]

    want = by_the_paper(llama(), prune)
    for path, layer in body_linears(model).items():
        torch.testing.assert_close(
            layer.weight, want.get_submodule(path).weight, rtol=1e-2, atol=2e-3
        )
    (check,) = SparseGpt(pattern, sparsity).verify(finalized(model), model)
    assert check.passed


def finalized(model: nn.Module) -> nn.Module:
    SparseGpt().finalize(model)
    return model


@every_method
def test_a_stage_that_was_cut_between_blocks_ends_with_the_same_bits(name):
    whole = llama()
    pruned(METHODS[name](), whole)
    for count in (1, 2, 3):
        cut = llama()
        method = METHODS[name]()
        method.prepare(cut)
        units = method.apply(PRUNE, cut, windows(), frozenset())
        done = [next(units) for _ in range(count)]
        units.close()
        resumed = llama()  # a fresh process has loaded what was saved of each finished unit
        METHODS[name]().prepare(resumed)
        for path in done:
            saved_state = copy.deepcopy(cut.get_submodule(path).state_dict())
            resumed.get_submodule(path).load_state_dict(saved_state)
        rest = list(METHODS[name]().apply(PRUNE, resumed, windows(), frozenset(done)))
        assert done + rest == BLOCKS
        state = whole.state_dict()
        assert all(torch.equal(tensor, state[n]) for n, tensor in resumed.state_dict().items())


@every_method
def test_the_whole_model_but_the_chosen_layers_keeps_every_bit_and_its_switches(name):
    model = llama().train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    method = METHODS[name](roles=("value", "down"))
    assert pruned(method, model) == BLOCKS
    changed = {n for n, t in before.items() if not torch.equal(t, model.state_dict()[n])}
    layers = body_linears(model, ("value", "down"))
    assert changed == {f"{path}.weight" for path in layers}
    assert all(module.training for module in model.modules())
    facts = {fact.name: fact for fact in method.ledger(model)}
    assert facts["model.layers.0.mlp.gate_proj"].skipped == "gate is not in roles"
    assert (
        facts["model.layers.0.mlp.down_proj"].density
        == facts["model.layers.0.mlp.down_proj"].target
    )


@every_method
def test_zeros_of_an_earlier_method_stay_and_count(name):
    model, held = llama(), {}
    with torch.no_grad():
        for path, layer in body_linears(model).items():
            score = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(3))
            held[path] = score > 0.3
            held[path][:, :3] = False  # more than 2:4 takes of its first group
            layer.weight *= held[path]
    model.held = held
    method = METHODS[name]()
    pruned(method, model)
    for path, layer in body_linears(model).items():
        assert not layer.weight[~held[path]].any(), path
    method.finalize(model)
    assert all(check.passed for check in method.verify(model, model))
    density = [fact.density for fact in method.ledger(model)]
    assert max(density) <= 0.6 + 1e-9  # and not what is left of both, 0.7 of 0.6


@every_method
def test_masks_hold_while_the_rest_recovers(name):
    model = llama()
    method = METHODS[name]()
    pruned(method, model)
    zeros = {path: layer.weight == 0 for path, layer in body_linears(model).items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = {path: layer.weight.clone() for path, layer in body_linears(model).items()}
    for step in range(1, 4):
        optimizer.zero_grad()
        ids = windows()[0]["input_ids"]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        method.after_step(step, model, optimizer)
    for path, layer in body_linears(model).items():
        assert not layer.weight[zeros[path]].any()
        assert not torch.equal(layer.weight, before[path])


def test_one_weight_too_many_fails_the_check_of_every_kind():
    for method in [*(make() for make in METHODS.values()), FixedMask("magnitude", "unstructured")]:
        model = llama()
        pruned(method, model)
        method.finalize(model)
        assert all(check.passed for check in method.verify(model, model))
        weight = model.get_submodule("model.layers.1.mlp.up_proj").weight
        with torch.no_grad():
            weight[tuple((weight == 0).nonzero()[0])] = 1e-6
        (check,) = method.verify(model, model)
        assert not check.passed, check


def test_padding_is_no_input(tmp_path):
    model = randomised(built(saved(tmp_path, "bert")))
    padded = batch(rows=3)
    padded["attention_mask"] = (torch.arange(16) < 9).long().expand(3, 16).contiguous()
    short = {name: value[:, :9] for name, value in padded.items()}
    norms = []
    for inputs in (padded, short):
        seen: dict[str, Tensor] = {}

        def look(path, layer, statistic, seen=seen):
            seen[path] = statistic.value()

        list(calibration.prune_blocks(model, [inputs], 3, None, InputNorm, look, ()))
        norms.append(seen)
    for path in parts_of(model).linear:
        torch.testing.assert_close(norms[0][path], norms[1][path], rtol=1e-4, atol=1e-5)


def test_layers_that_are_fed_the_same_share_what_is_summed():
    made = []

    def statistic():
        made.append(InputNorm())
        return made[-1]

    model = llama()
    list(calibration.prune_blocks(model, windows(), 6, None, statistic, lambda *_: None, ()))
    assert len(made) == 3 * 4  # q, k, v | o | gate, up | down
    assert {one.tokens for one in made} == {6 * 12}


def test_too_few_rows_say_what_to_lower():
    for method in (Wanda(samples=11), SparseGpt(samples=11)):
        with pytest.raises(DataError, match=r"samples=11: .* 10 rows; type samples=10"):
            pruned(method, llama())


def test_a_finished_stage_reads_no_row():
    def unread():
        raise AssertionError("a row was read")
        yield

    for make in METHODS.values():
        assert list(make().apply(PRUNE, llama(), unread(), frozenset(BLOCKS))) == []
        assert list(make().apply(Stage("other", 0.0), llama(), unread(), frozenset())) == []


TRAINING = [Stage("first", 0.25), Stage("cache", 0.0), Stage("second", 0.75, lr=1e-3)]


@pytest.mark.parametrize("kind", [Wanda, SparseGpt])
def test_nothing_is_trained_unless_a_share_of_the_steps_is_to_recover(kind):
    def plan(method):
        return [(s.name, s.share, s.lr) for s in method.stages(TRAINING)]

    assert plan(kind()) == [("cache", 0.0, None), ("prune", 0.0, None)]
    assert plan(kind(recover=1.0, lr=0.5)) == [
        ("cache", 0.0, None),
        ("prune", 0.0, None),
        ("first", 0.25, 0.5),
        ("second", 0.75, 0.5),
    ]
    assert plan(kind(recover=0.5, lr=0.5)) == [
        ("first", 0.125, None),
        ("cache", 0.0, None),
        ("second", 0.375, 1e-3),
        ("prune", 0.0, None),
        ("first", 0.125, 0.5),
        ("second", 0.375, 0.5),
    ]
    assert plan(FixedMask(lr=0.5)) == plan(kind(recover=1.0, lr=0.5))


class Rows:
    """Stands for a data set of 48 training rows."""

    info = DataInfo("text", None, {"train": 48}, 32, ("perplexity",), "made up")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Wanda(), "samples=128: the training split has 48 rows; type samples=48"),
        (SparseGpt(samples=0), "samples=0: at least 1"),
        (FixedMask("wanda"), "samples=128: the training split has 48 rows"),
        (Wanda("row", samples=6), "pattern=row: the paper has N:M and unstructured"),
        (FixedMask(pattern="block:4x4"), "pattern=block:4x4: the paper has"),
        (Wanda("1:4", samples=6), "set sparsity=0.75"),
        (SparseGpt("2:5", 0.6, samples=6), "not a multiple of 5"),
        (SparseGpt(samples=6, block=0), "block=0: columns, at least 1"),
        (SparseGpt(samples=6, damping=0.0), "damping=0.0: a share between 0 and 1"),
        (Wanda(samples=6, recover=1.5), "recover=1.5: a share of the steps"),
        (FixedMask("wonder"), "score=wonder: choose magnitude or wanda"),
        (SparseGpt(samples=6, roles=("quary",)), "no role"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_weight_is_allocated(method, words):
    with torch.device("meta"):
        model = llama()
    problems = method.requirements(model, Rows())
    assert any(words in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)
    assert Wanda(samples=48).requirements(model, Rows()) == []
    assert FixedMask().requirements(model, Rows()) == []
