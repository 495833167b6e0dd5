"""The contract, falsified: fakes of systems of every kind run, and survive being killed
anywhere."""

from pathlib import Path

import pytest
import torch

from gossamer import execution, plan
from gossamer import journal as journals
from gossamer.dense import Dense
from gossamer.execution import execute
from gossamer.journal import Journal
from gossamer.stages import Experiment, Training, Watch, plan_stages
from tests.contract.fakes import SYSTEMS, Points, System


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the engine handles it."""


def experiment(system: System) -> Experiment:
    data = Points()
    data.load()
    training = Training(
        base_steps=4, steps=7, lr=0.02, checkpoint_every=2, accelerator="cpu", progress=False
    )
    methods = {method.__name__: method() for method in system.methods}
    return Experiment(
        system.builder(), system.task(), data, training, 3, methods, {"model": repr(system)}
    )


def run(system: System, directory: Path) -> dict[str, torch.Tensor]:
    """Fresh objects, as a fresh process would have: dense start, stages, finalize."""
    made = experiment(system)
    budget = plan.budget(made)
    if not made.methods:  # trained by the model and the task alone
        model = Dense(made, budget.twin, directory).model(Watch())
    else:
        start = Dense(made, (budget.base,) if budget.base else (), directory)
        model = start.model(Watch())
        journal = Journal(directory / "run", {"config": "same"})
        execute(made, model, plan_stages(made, budget.steps), journal, budget.base, Watch())
    return made.finalize(model).state_dict()


def kill_at(monkeypatch, save: int) -> None:
    """Die right after the save number `save` (from 1) of anything: a unit, a checkpoint, a
    stage."""
    real, count = journals.write_atomically, 0

    def counting(path, write):
        nonlocal count
        real(path, write)
        count += 1
        if count == save:
            raise Killed

    monkeypatch.setattr(journals, "write_atomically", counting)


@pytest.fixture(autouse=True)
def save_every_unit(monkeypatch):
    monkeypatch.setattr(execution, "UNIT_SECONDS", 0.0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_killed_after_any_save_and_resumed_the_weights_are_bit_identical(
    name, tmp_path, monkeypatch
):
    system = SYSTEMS[name]
    expected = run(system, tmp_path / "whole")
    for save in range(1, 100):
        directory = tmp_path / str(save)
        with monkeypatch.context() as patch:
            kill_at(patch, save)
            try:
                run(system, directory)
                break  # it ended before that save: every boundary was tried
            except Killed:
                pass
        resumed = run(system, directory)
        assert resumed.keys() == expected.keys()
        for key in expected:
            assert torch.equal(resumed[key], expected[key]), f"{key} after a kill at save {save}"
    assert save > 3, "no boundary was tried"


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_system_learns_something_or_changes_something(name, tmp_path):
    system = SYSTEMS[name]
    made = experiment(system)
    with torch.no_grad():
        start = made.start().state_dict()
    end = run(system, tmp_path)
    assert any(not torch.equal(end[key], start[key]) for key in end)


def test_zeros_of_an_earlier_method_survive_later_training(tmp_path):
    weights = run(SYSTEMS["sparse, then trained on"], tmp_path)
    for key in ("blocks.0.weight", "blocks.1.weight"):
        groups = (weights[key] != 0).reshape(-1, 4).sum(1)
        assert (groups <= 2).all() and weights[key].any()


def test_a_quantiser_after_a_sparse_method_keeps_its_zeros(tmp_path):
    weights = run(SYSTEMS["continuous sparsity, then a quantiser"], tmp_path)
    assert ((weights["blocks.0.weight"] != 0).reshape(-1, 4).sum(1) <= 2).all()


def test_another_seed_gives_other_weights_and_the_same_seed_the_same(tmp_path):
    system = SYSTEMS["rewiring from a seeded draw"]
    first, again = run(system, tmp_path / "a"), run(system, tmp_path / "b")
    assert all(torch.equal(first[key], again[key]) for key in first)
    made = experiment(system)
    made.seed = 4
    assert not torch.equal(
        made.start().blocks[0].weight, experiment(system).start().blocks[0].weight
    )
