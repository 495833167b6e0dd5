"""Weights or a loss that are not finite stop a stage before anything good is overwritten."""

import pytest
import torch

from gossamer.contract import Method
from gossamer.errors import StageError
from gossamer.models.parts import body_linears
from tests.contract import table
from tests.contract.table import Row, experiment


class Breaks(Method):
    """Trains on, and makes one weight `value` after step `step`."""

    start = "init"

    def __init__(self, step: int, value: float) -> None:
        self.step, self.value = step, value

    def after_step(self, step, model, optimizer):
        if step == self.step:
            with torch.no_grad():
                next(iter(body_linears(model).values())).weight[0, 0] = self.value


def broken(step: int, value: float, tmp_path):
    made = experiment(Row({}))
    made.methods = {"breaks": Breaks(step, value)}
    with pytest.raises(StageError) as raised:
        table.run(made, tmp_path / "outputs", tmp_path / "journal")
    return str(raised.value)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_checkpoint_is_not_overwritten_by_weights_that_are_not_finite(value, tmp_path):
    line = broken(6, value, tmp_path)  # checkpoints are due after steps 3, 6, 9
    assert "query.weight is not finite after step 6 of 12" in line and "\n" not in line
    (checkpoint,) = (tmp_path / "journal").glob("*.checkpoint.pt")
    assert f"the last good checkpoint is {checkpoint}" in line
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["step"] == 3
    assert all(bool(tensor.isfinite().all()) for tensor in saved["model"].values())


def test_a_loss_that_is_not_finite_names_its_step_and_terms(tmp_path):
    line = broken(4, float("nan"), tmp_path)
    assert "the loss is nan at step 5 of 12 (terms: task nan)" in line
    assert "Lower trainer.lr" in line


def test_weights_that_break_in_the_last_step_do_not_leave_the_stage(tmp_path):
    line = broken(12, float("inf"), tmp_path)
    assert "is not finite after step 12 of 12" in line
    assert not list((tmp_path / "journal").glob("stage-00.json"))
    assert torch.load(tmp_path / "journal" / "stage-00.checkpoint.pt")["step"] == 9
