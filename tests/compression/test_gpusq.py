"""GPUSQ-ViT on a small vision transformer: what its masks, grids, teachers and factors promise."""

import copy
from dataclasses import replace

import pytest
import torch

from gossamer.distillation import distillation_aware
from gossamer.models.parts import operations, parts_of
from gossamer.models.sparse_body import prunable
from gossamer.quantization.grid import largest
from gossamer.quantization.packed import Packed
from gossamer.sparsity.patterns import parse
from tests.contract import table
from tests.contract.table import Row, logits

GPUSQ = {"samples": 20, "quantize_lr": 1e-3, "share": 0.5}


def experiment(**settings):
    return table.experiment(Row({"gpusq": {**GPUSQ, **settings}}, vision=True))


def run(made, place):
    return table.run(made, place / "outputs", place / "journal")


def spied(made, verb):
    """What the model is after each call of a verb: a list of deep copies."""
    (method,) = made.methods.values()
    real, seen = getattr(method, verb), []

    def wrapped(*given):
        result = real(*given)
        seen.append((given, copy.deepcopy(next(g for g in given if hasattr(g, "parts")))))
        return result

    setattr(method, verb, wrapped)
    return seen


@pytest.mark.parametrize(("bits", "pattern"), [(8, "2:4"), (4, "pairwise:4:8")])
def test_the_pattern_holds_after_every_step_and_in_the_result(bits, pattern, tmp_path):
    made = experiment(bits=bits)
    after = spied(made, "after_step")
    model, _ = run(made, tmp_path)
    assert len(after) == made.training.steps
    for _, live in after:
        for path, layer in prunable(live, None).items():
            assert parse(pattern).holds(layer.weight.flatten(1)), path
            assert (layer.weight_mask.reshape(-1, 4).sum(1) == 2).all() or bits == 4, path
    for path, layer in prunable(model, None).items():
        assert isinstance(layer, Packed) and layer.pattern == pattern, path
        assert parse(pattern).holds(layer.weight.flatten(1)), path


def test_the_patch_embedding_is_a_matrix_and_the_head_stays_whole(tmp_path):
    model, _ = run(experiment(), tmp_path)
    (embedding,) = operations(model, ["patch_embedding"]).values()
    (head,) = operations(model, ["head"]).values()
    assert embedding.weight.ndim == 4 and embedding.pattern == "2:4"
    assert parse("2:4").holds(embedding.weight.flatten(1))
    assert head.pattern == "dense" and not parse("2:4").holds(head.weight)


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_are_whole_steps_of_their_rows_and_masked_ones_0(bits, tmp_path):
    made = experiment(bits=bits)
    last = spied(made, "after_step")
    model, _ = run(made, tmp_path)
    for path, layer in operations(model).items():
        steps = layer.weight.flatten(1) / layer.scale[:, None]
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert steps.abs().max() <= largest(bits) + 1e-4
        assert layer.integers().unique().numel() <= 2 * largest(bits) + 1
        masked = last[-1][1].get_submodule(path)._buffers.get("weight_mask")
        if masked is not None:
            assert (layer.weight[~masked] == 0).all()


def test_the_scale_is_that_of_the_masked_weight(tmp_path):
    made = experiment()
    last = spied(made, "after_step")
    model, _ = run(made, tmp_path)
    for path, layer in prunable(model, None).items():
        live = last[-1][1].get_submodule(path)
        amax = (live.weight * live.weight_mask).flatten(1).abs().amax(1)
        torch.testing.assert_close(layer.scale, amax / 127)


def test_the_second_teacher_is_the_sparse_float_model(tmp_path):
    made = experiment()
    taught = []
    (method,) = made.methods.values()
    real = method.losses

    def losses(model, task, batch, output, teacher):
        taught.append((method.stage.name, copy.deepcopy(teacher.model), copy.deepcopy(model)))
        return real(model, task, batch, output, teacher)

    method.losses = losses
    run(made, tmp_path)
    names = [name for name, _, _ in taught]
    assert names == ["sparse"] * 4 + ["quantize"] * 4
    dense, sparse = taught[0][1], taught[4][1]
    assert not any(parse("2:4").holds(w.weight.flatten(1)) for w in prunable(dense, None).values())
    assert all(parse("2:4").holds(w.weight.flatten(1)) for w in prunable(sparse, None).values())
    # with its grids switched off the student of the first step on the grid is its teacher
    student = taught[4][2]
    for layer in operations(student).values():
        assert layer.active
        layer.active = False
    assert not any(layer.active for layer in operations(sparse).values())
    assert torch.equal(logits(made, student), logits(made, sparse))


def test_what_was_hard_to_mimic_counts_less_on_the_grid(tmp_path):
    made = experiment(share=0.5)
    made.training = replace(made.training, steps=40)  # 20 and 20: F is the mean of two steps
    seen, weights = [], []
    (method,) = made.methods.values()
    real = method.losses

    def losses(model, *given):
        terms = real(model, *given)
        if method.stage.name == "sparse":
            seen.append(method.seen)
        else:
            weights.append(method.map_weights(model))
        return terms

    method.losses = losses
    _, rows = run(made, tmp_path)
    f = torch.stack(seen[-2:]).mean(0)
    expected = distillation_aware(f, "inverse")
    assert f.min() > 0 and len(f) == 2
    torch.testing.assert_close(weights[-1], expected)
    assert float(expected.mean()) == pytest.approx(1)
    assert (expected.argmax() == f.argmin()).item()
    sparse, on_grid = (next(r for r in rows if r["name"].endswith(n)) for n in ("sparse", "ize"))
    told = [sparse["figures"][f"feature loss {i}"] for i in range(2)]
    assert told == pytest.approx(f.tolist())
    told = [on_grid["figures"][f"factor {i}"] for i in range(2)]
    assert told == pytest.approx(expected.tolist())


def scrambled(made):
    """The same images, each with another label, drawn anew for every batch that is trained on."""
    real = made.data.on_device

    def on_device(batch):
        batch = real(batch)
        return {**batch, "labels": (batch["labels"] + 1) % len(made.data.info.classes)}

    made.data.on_device = on_device
    return made


def test_unsupervised_another_labelling_changes_nothing(tmp_path):
    base = tmp_path / "outputs"
    ends = {}
    for target in ("teacher", "gt"):
        for scramble in (False, True):
            made = experiment(hard_target=target)
            table.Dense(made, (made.training.base_steps,), base).model(table.Watch())
            made = scrambled(made) if scramble else made  # the base was made with the true ones
            place = tmp_path / f"{target}{scramble}"
            ends[target, scramble], _ = table.run(made, base, place)
    same = {
        target: table.same(ends[target, False].state_dict(), ends[target, True].state_dict())
        for target in ("teacher", "gt")
    }
    assert same == {"teacher": True, "gt": False}


def test_the_halves_in_a_row_are_the_whole_without_its_factors(tmp_path):
    joint = experiment(factors="none", lr=1e-3)
    halves = table.experiment(
        Row({"nm_prune": {"lr": 1e-3}, "qat": {"samples": 20, "lr": 1e-3}}, vision=True)
    )
    whole, _ = table.run(joint, tmp_path / "outputs", tmp_path / "joint")
    apart, _ = table.run(halves, tmp_path / "outputs", tmp_path / "halves")
    assert table.same(whole.state_dict(), apart.state_dict())
    named, _ = table.run(experiment(lr=1e-3), tmp_path / "outputs", tmp_path / "named")
    assert not table.same(whole.state_dict(), named.state_dict())  # the factors do something


def test_calibration_reads_no_label_and_as_many_rows_as_it_says(tmp_path):
    made = experiment()
    (method,) = made.methods.values()
    real, seen = method._observed, []

    def observed(model, batches):
        blind = [{k: v for k, v in b.items() if k != "labels"} for b in batches]
        model.register_forward_pre_hook(
            lambda m, args, kwargs: seen.append(len(kwargs["x"])), with_kwargs=True
        )
        return real(model, blind)

    method._observed = observed
    run(made, tmp_path)
    assert seen[:3] == [8, 8, 4]


def test_ranges_are_fixed_once_they_are_calibrated(tmp_path):
    made = experiment()
    entered = spied(made, "enter")
    model, _ = run(made, tmp_path)
    at = {stage.name: live for (stage, _), live in entered}
    for path, layer in operations(model).items():
        assert float(at["sparse"].get_submodule(path).input_amax) == 0
        amax = at["quantize"].get_submodule(path).input_amax
        assert float(amax) > 0 and torch.equal(layer.input_scale, amax / 127)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bits": 6}, ("bits=6", "4 or 8")),
        ({"pattern": "3:5"}, ("pattern=3:5", "not a multiple of 5", "prune")),
        ({"pattern": "unstructured"}, ("pattern=unstructured", "N:M")),
        ({"features": 3}, ("features=3", "from 1 to 2")),
        ({"samples": 10_000}, ("samples=10000", "type samples=")),
        ({"prune": ["nothing"]}, ("prune=", "nothing")),
        ({"quantize": ["reduction"]}, ("quantize=", "no layer")),
        ({"factors": "paper"}, ("factors=paper", "inverse")),
        ({"share": 1.0}, ("share=1.0",)),
        ({"percentile": 40.0}, ("percentile=40.0",)),
        ({"calibration": "mean"}, ("calibration=mean", "entropy")),
        ({"beta": -1.0}, ("beta=-1.0",)),
    ],
)
def test_settings_that_cannot_work_are_one_line_each(settings, words):
    from gossamer import plan

    found = plan.problems(experiment(**settings))
    assert len(found) >= 1
    assert any(all(word in line for word in words) for line in found), found


def test_layers_that_are_left_out_are_listed_with_the_reason(tmp_path):
    made = experiment(prune=["up", "down"], quantize=["up", "down", "qkv"])
    model, _ = run(made, tmp_path)
    (method,) = made.methods.values()
    told = {fact.name: fact for fact in method.ledger(model)}
    assert told.keys() == operations(model).keys()
    roles = parts_of(model).linear | parts_of(model).outer
    for path, fact in told.items():
        if roles[path] in ("up", "down"):
            assert (fact.pattern, fact.operands) == ("2:4", (8, 8)) and fact.changed
        elif roles[path] == "qkv":
            assert (fact.pattern, fact.operands) == ("dense", (8, 8)) and fact.changed
        else:
            assert fact.skipped == f"{roles[path]} is not in quantize" and not fact.changed


def test_pruned_and_not_quantised_is_sparse_and_plain(tmp_path):
    made = experiment(quantize=["up", "down"])
    model, _ = run(made, tmp_path)
    (method,) = made.methods.values()
    (path, layer), *_ = operations(model, ["qkv"]).items()
    assert type(layer) is torch.nn.Linear and "weight_mask" not in layer._buffers
    assert parse("2:4").holds(layer.weight)
    fact = next(fact for fact in method.ledger(model) if fact.name == path)
    assert (fact.pattern, fact.target, fact.operands, fact.changed) == ("2:4", 0.5, None, True)
    assert all(check.passed for check in method.verify(model, model))


def test_in_bfloat16_the_pattern_and_the_grid_are_as_exact(tmp_path):
    made = experiment()
    made.training = replace(made.training, precision="bf16-mixed")
    model, _ = run(made, tmp_path)
    (method,) = made.methods.values()
    assert all(check.passed for check in method.verify(model, model))
    assert all(torch.isfinite(layer.weight).all() for layer in operations(model).values())
