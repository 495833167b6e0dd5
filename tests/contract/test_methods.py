"""The contract table: every method, in every setting of table.ROWS, through the same behaviours."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import gossamer
from gossamer import fit, plan, proof, result
from gossamer import journal as journals
from gossamer.contract import Check, Fact
from gossamer.dense import Dense
from gossamer.errors import TargetError
from gossamer.export import bundle
from gossamer.journal import Journal
from gossamer.models.parts import body_linears, operations, parts_of
from gossamer.stages import Experiment, Watch
from tests.contract import table
from tests.contract.table import COMPRESSED, CONF, ROWS, draws, experiment, logits, same
from tests.contract.tampering import TAMPERINGS
from tests.contract.watching import Seen, watch

every_row = pytest.mark.parametrize("name", ROWS)
every_compressed_row = pytest.mark.parametrize("name", COMPRESSED)


@dataclass
class Whole:
    """One uninterrupted, watched run of a row."""

    made: Experiment
    model: nn.Module
    rows: list
    seen: Seen
    saves: int
    journal: Path


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the engine handles it."""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """Where the rows' dense bases are kept, as runs share them."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def whole(outputs, tmp_path_factory):
    """name -> its uninterrupted run, made when it is first asked for."""
    runs: dict[str, Whole] = {}

    def of(name: str) -> Whole:
        if name not in runs:
            made, journal = experiment(ROWS[name]), tmp_path_factory.mktemp("journal")
            with pytest.MonkeyPatch.context() as patch:
                budget = plan.budget(made)
                Dense(made, (budget.base,), outputs).model(Watch())  # its saves are not the row's
                seen, saves = watch(made, patch), die_after(patch, None)
                model, rows = table.run(made, outputs, journal)
            runs[name] = Whole(made, model, rows, seen, saves(), journal)
        return runs[name]

    return of


def die_after(patch: pytest.MonkeyPatch, save: int | None):
    """Die right after save number `save` (from 1) of anything; returns the counter."""
    real, count = journals.write_atomically, 0

    def counting(path, write):
        nonlocal count
        real(path, write)
        count += 1
        if count == save:
            raise Killed

    patch.setattr(journals, "write_atomically", counting)
    return lambda: count


@pytest.fixture(autouse=True)
def save_every_unit(monkeypatch):
    monkeypatch.setattr("gossamer.execution.UNIT_SECONDS", 0.0)


def export(made: Experiment, model: nn.Module, folder: Path) -> None:
    bundle.save(
        model,
        folder,
        builder=made.nodes["model"],
        info=made.data.info,
        tokenizer=made.tokenizer,
        facts=[fact for method in made.methods.values() for fact in method.ledger(model)],
        fresh=made.unprepared(),
    )


def verify(made: Experiment, loaded: nn.Module, model: nn.Module) -> list[Check]:
    return [c for method in made.methods.values() for c in method.verify(loaded, model)]


def shapes(model: nn.Module) -> dict:
    return {n: (tuple(t.shape), t.dtype) for n, t in model.state_dict(keep_vars=True).items()}


def test_every_compression_choice_has_a_row():
    choices = {file.stem for file in (CONF / "compression").glob("**/*.yaml")}
    assert choices - {"none"} == {name for row in ROWS.values() for name in row.methods}
    assert {} in [row.methods for row in ROWS.values()]


def test_an_unmet_promise_of_the_table_is_noticed():
    used = {word for row in ROWS.values() for word in row.tampered}
    assert used | {"weights shuffled"} == TAMPERINGS.keys()


@every_compressed_row
def test_preparing_on_meta_allocates_and_draws_nothing(name):
    made = experiment(ROWS[name])
    for method in made.methods.values():
        model, before = made.meta(), list(draws())
        method.prepare(model)
        assert all(map(torch.equal, before, draws()))
        tensors = [*model.parameters(), *model.buffers()]
        assert all(tensor.is_meta for tensor in tensors)


@every_compressed_row
def test_preparing_draws_nothing_and_always_gives_the_same_model(name):
    made = experiment(ROWS[name])
    other = experiment(ROWS[name])
    for key in made.methods:
        model, again = made.start(), other.start()
        before = list(draws())
        made.methods[key].prepare(model)
        assert all(map(torch.equal, before, draws()))
        torch.rand(7)  # whatever was drawn in between
        other.methods[key].prepare(again)
        assert shapes(model) == shapes(again)
        assert same(model.state_dict(), again.state_dict())
        on_meta = made.meta()
        other.methods[key].prepare(on_meta)
        assert shapes(on_meta) == shapes(model)


@every_compressed_row
def test_preparing_leaves_the_function_as_it_was(name):
    made = experiment(ROWS[name])
    for method in made.methods.values():
        model = made.start()
        before = logits(made, model)
        method.prepare(model)
        torch.testing.assert_close(logits(made, model), before, rtol=1e-5, atol=1e-6)


@every_row
def test_the_row_is_legal_and_can_be_rehearsed_without_a_weight(name):
    made = experiment(ROWS[name])
    before = list(draws())
    assert plan.problems(made) == []
    touched, trained = plan.rehearse(made)
    assert all(map(torch.equal, before, draws()))
    assert touched.keys() == made.methods.keys() and all(touched.values())
    assert all(count > 0 for count in trained.values())
    assert bool(trained) == bool(made.methods and plan.budget(made).steps)


@every_row
def test_the_run_spends_its_steps_and_every_stage_says_what_it_did(name, whole):
    done = whole(name)
    budget = plan.budget(done.made)
    training = done.made.training
    assert budget.total + budget.unspent == training.base_steps + training.steps
    assert sum(row["steps"] for row in done.rows) == (budget.steps if done.made.methods else 0)
    for row in done.rows:
        assert set(row["quality_after"]) == {*done.made.data.info.metrics, "loss"}
        assert (row["trainable_parameters"] > 0) == (row["steps"] > 0)
    for before, after in zip(done.rows, done.rows[1:], strict=False):
        assert before["quality_after"] == after["quality_before"]


@every_compressed_row
def test_the_ledger_names_every_body_layer_or_attention_and_at_least_one_change(name, whole):
    done = whole(name)
    for method in done.made.methods.values():
        facts: list[Fact] = method.ledger(done.model)
        layers, cores = operations(done.model), list(parts_of(done.model).attention)
        named = [fact.name for fact in facts]
        assert named in (list(body_linears(done.model)), list(layers), cores)
        assert any(fact.changed for fact in facts)
        for fact in facts:
            if named == cores:  # products of activations
                heads, queries, keys = fact.shape
                assert heads > 1 and queries == keys and 0 < fact.density <= 1
                assert fact.dense_macs is not None and fact.macs > 0
                continue
            weight = layers[fact.name].weight
            assert fact.shape == tuple(weight.shape)
            assert fact.density == int(weight.count_nonzero()) / weight.numel()
            assert fact.changed != bool(fact.skipped)


@every_compressed_row
def test_entering_a_stage_again_changes_nothing(name, whole):
    seen = whole(name).seen
    assert seen.entered == len(whole(name).rows) and seen.changes == []


@every_row
def test_parameters_that_do_not_train_keep_every_bit(name, whole):
    seen = whole(name).seen
    assert seen.thawed == []
    assert (seen.frozen > 0) == ROWS[name].freezes


@every_compressed_row
def test_finalizing_keeps_the_function(name, whole):
    done = whole(name)
    assert len(done.seen.functions) == len(done.made.methods)
    for before, after in done.seen.functions:
        assert (after - before).abs().max() <= 1e-4 * before.abs().max()


@every_row
def test_only_modules_for_inference_remain(name, whole):
    done = whole(name)
    allowed = {type(module) for module in done.made.meta().modules()} | {*ROWS[name].modules}
    dense = done.made.meta().state_dict().keys()
    for path, module in done.model.named_modules():
        assert type(module) in allowed, path
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        assert not any(hooks) and not hasattr(module, "parametrizations"), path
        around = done.model.get_submodule(path.rpartition(".")[0])
        if not {type(module), type(around)} & {*ROWS[name].modules}:
            own = [f"{path}.{key}" for key in (*module._parameters, *module._buffers) if path]
            assert {key for key in own if key in done.model.state_dict()} <= dense, path
    assert not any(p.requires_grad for p in done.model.parameters())
    assert not done.model.training


@every_row
def test_the_exported_model_is_the_finished_one_and_passes_its_own_checks(name, whole, tmp_path):
    done = whole(name)
    export(done.made, done.model, tmp_path / "export")
    loaded = gossamer.load(tmp_path / "export")
    assert same(loaded.state_dict(), done.model.state_dict())
    assert torch.equal(logits(done.made, loaded), logits(done.made, done.model))
    checks = verify(done.made, loaded, done.model)
    assert all(check.passed for check in checks), checks
    assert bool(checks) == bool(ROWS[name].tampered)


@pytest.mark.parametrize(
    ("name", "tampering"), [(name, word) for name, row in ROWS.items() for word in row.tampered]
)
def test_the_methods_own_checks_find_a_tampered_export(name, tampering, whole, tmp_path):
    done = whole(name)
    export(done.made, done.model, tmp_path / "export")
    loaded = gossamer.load(tmp_path / "export")
    TAMPERINGS[tampering](loaded, done.made.methods)
    assert not all(check.passed for check in verify(done.made, loaded, done.model))


@every_compressed_row
def test_the_engine_holds_every_zero_that_a_method_says_it_produces(name, whole, tmp_path):
    done = whole(name)
    sparse = any("sparse weights" in method.produces for method in done.made.methods.values())
    assert bool(done.model.held) == sparse
    if sparse:
        export(done.made, done.model, tmp_path / "export")
        loaded = gossamer.load(tmp_path / "export")
        assert all(check.passed for check in proof.held_checks(done.model, loaded))
        TAMPERINGS["zero filled"](loaded, {})
        assert not all(check.passed for check in proof.held_checks(done.model, loaded))


@every_row
def test_a_run_whose_export_reloads_otherwise_fails(name, whole, tmp_path, monkeypatch):
    done = whole(name)
    real = bundle.load

    def load(folder, *rest):
        loaded = real(folder, *rest)
        TAMPERINGS["weights shuffled"](loaded, {})
        return loaded

    monkeypatch.setattr(bundle, "load", load)
    twin = Dense(done.made, (), tmp_path)
    finished = result.Finished(done.made, done.model, twin, tmp_path, Watch(), lambda text: None)
    with pytest.raises(TargetError, match="reloaded weights equal the exported"):
        result.finish(finished, done.rows)


@pytest.mark.parametrize("share", [0.0, 0.34, 0.67, 1.0])
@every_row
def test_killed_and_resumed_the_weights_are_bit_identical(
    name, share, whole, outputs, tmp_path, monkeypatch
):
    done = whole(name)
    save = 1 + round(share * (done.saves - 1))
    if not ROWS[name].methods:
        outputs = tmp_path  # the dense training itself is what is killed
    with monkeypatch.context() as patch:
        die_after(patch, save)
        with pytest.raises(Killed):
            table.run(experiment(ROWS[name]), outputs, tmp_path / "journal")
    model, rows = table.run(experiment(ROWS[name]), outputs, tmp_path / "journal")
    assert same(model.state_dict(), done.model.state_dict()), f"after save {save} of {done.saves}"
    timeless = [{**row, "seconds": 0} for row in rows]
    assert timeless == [{**row, "seconds": 0} for row in done.rows]


@every_compressed_row
def test_a_fresh_process_finalizes_what_another_one_trained(name, whole, outputs, monkeypatch):
    done = whole(name)

    def refuse(*_):
        raise AssertionError("a finished stage was repeated")

    made = experiment(ROWS[name])
    monkeypatch.setattr(fit, "train", refuse)
    for method in made.methods.values():
        monkeypatch.setattr(method, "apply", refuse)
    model, rows = table.run(made, outputs, done.journal)
    assert rows == done.rows
    assert same(model.state_dict(), done.model.state_dict())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if len(row.methods) == 1])
def test_the_last_stages_weights_and_a_fresh_method_make_the_same_model(name, whole):
    done = whole(name)
    made = experiment(ROWS[name])
    (method,) = made.methods.values()
    model = made.start()
    method.prepare(model)
    Journal(done.journal, {}).restore(len(done.rows) - 1, model)
    method.finalize(model)
    assert same(model.state_dict(), done.model.state_dict())


@every_row
def test_a_seed_decides_every_bit(name, whole, outputs, tmp_path):
    done = whole(name)
    again, _ = table.run(experiment(ROWS[name]), tmp_path / "outputs", tmp_path / "again")
    assert same(again.state_dict(), done.model.state_dict())
    other, _ = table.run(experiment(ROWS[name], seed=4), outputs, tmp_path / "other")
    weights = [layer.weight for layer in body_linears(other).values()]
    mine = [layer.weight for layer in body_linears(done.model).values()]
    assert not any(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(weights, mine, strict=True)
    )
