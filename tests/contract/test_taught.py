"""What a stage can ask for besides a teacher: feature maps of both, which teacher, no labels."""

import pytest
import torch

from gossamer.contract import Fact, Method, Stage
from gossamer.dense import Dense
from gossamer.execution import execute
from gossamer.journal import Journal
from gossamer.models.parts import parts_of
from gossamer.stages import Watch, plan_stages
from tests.contract import table


class Looks(Method):
    """Trains as told by `settings`, and keeps what its losses were given."""

    settings: dict = {}  # noqa: RUF012

    def __init__(self):
        self.batches, self.features, self.taught = [], [], []

    def stages(self, training):
        return [Stage("look", **self.settings)]

    def losses(self, model, task, batch, output, teacher):
        self.batches.append(dict(batch))
        self.features.append(output.get("features"))
        if teacher is not None:
            model.eval()  # both without dropout
            with torch.no_grad():
                self.taught.append((teacher(batch), task.forward(model, batch)))
            model.train()
        return {"mine": output["logits"].square().mean()}

    def ledger(self, loaded):
        return [Fact("head", (1, 1))]


class Shifts(Looks):
    """Another function from the moment it prepares."""

    def prepare(self, model):
        with torch.no_grad():
            model.get_submodule(parts_of(model).head[-1]).bias += 1.0


def look(place, method, *before):
    """A run of `before` and `method` on the contract table's words; the trained model."""
    made = table.experiment(table.ROWS["none"])
    made.methods = {f"m{i}": each for i, each in enumerate([*before, method])}
    model = Dense(made, (4,), place / "outputs").model(Watch())
    plans = plan_stages(made, 4)
    execute(made, model, plans, Journal(place / "run", {"is": "same"}), 4, Watch())
    return made, model


@pytest.mark.parametrize("count", [1, 2])
def test_the_last_feature_maps_are_seen_of_student_and_teacher(tmp_path, count):
    method = Looks()
    method.settings = {"teacher": "start", "capture": count}
    _, model = look(tmp_path, method)
    paths = parts_of(model).blocks[-count:]
    for mine, (theirs, _) in zip(method.features, method.taught, strict=True):
        assert tuple(mine) == tuple(theirs["features"]) == paths
        assert all(mine[p].shape == theirs["features"][p].shape for p in paths)
        assert all(mine[p].requires_grad for p in paths)
        assert not any(theirs["features"][p].requires_grad for p in paths)


def test_modules_can_be_captured_by_path(tmp_path):
    method = Looks()
    made = table.experiment(table.ROWS["none"])
    path = parts_of(made.meta()).blocks[0]
    method.settings = {"capture": (path,)}
    look(tmp_path, method)
    assert all(tuple(features) == (path,) for features in method.features)


def test_without_capture_there_are_no_features(tmp_path):
    method = Looks()
    method.settings = {"teacher": "start"}
    look(tmp_path, method)
    assert method.features == [None] * 4
    assert all("features" not in theirs for theirs, _ in method.taught)


def test_a_stage_without_labels_gets_none_and_its_loss_is_the_methods_alone(tmp_path, monkeypatch):
    made_loss = []
    task = type(table.experiment(table.ROWS["none"]).task)
    real = task.losses
    monkeypatch.setattr(task, "losses", lambda *a, **k: made_loss.append(1) or real(*a, **k))
    blind, sees = Looks(), Looks()
    blind.settings = {"labels": False}
    look(tmp_path / "blind", blind)
    dense = len(made_loss)  # the base's own steps
    assert dense == 4
    assert all("labels" not in batch for batch in blind.batches)
    look(tmp_path / "sees", sees)
    assert all("labels" in batch for batch in sees.batches)
    assert len(made_loss) == 4 + 4 + 4


def test_before_is_what_the_method_was_given_and_start_what_the_run_was(tmp_path):
    for teacher, same in (("before", True), ("start", False)):
        first, second = Shifts(), Looks()
        first.settings, second.settings = {}, {"teacher": teacher}
        look(tmp_path / teacher, second, first)
        theirs, mine = second.taught[0]  # in its first step it is what it was given
        assert torch.equal(theirs["logits"], mine["logits"]) == same


def test_before_is_taken_before_the_method_prepares(tmp_path):
    method = Shifts()
    method.settings = {"teacher": "before"}
    look(tmp_path, method)
    theirs, mine = method.taught[0]
    shift = mine["logits"] - theirs["logits"]
    torch.testing.assert_close(shift, torch.ones_like(shift), rtol=0, atol=1e-4)
