"""Match to sample through the command line: plans at both sizes, and a run whose pictures are not
square."""

import pytest

import gossamer
from gossamer import plan
from gossamer.records import record as records
from gossamer.run import read_config
from tests.runs.commands import TRAINER, one_line, record, run_directory
from tests.runs.commands import gossamer as command

VIT = (
    *("model=vit", "model.weights=init", "model.width=32", "model.layers=2", "model.heads=2"),
    "model.neurons=64",
)
FEW = ("dataset.train=64", "dataset.validation=24", "dataset.test=40", "dataset.batch_size=8")


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        (("dataset=match_to_sample", "model.patch=4"), 4 * 4 * 3 + 18),
        (("dataset=match_to_sample_large",), 16 * 16 * 3 + 197),
    ],
)
def test_a_plan_counts_a_model_of_either_size(words, parameters, tmp_path):
    ended = command("plan", *VIT, *words, cwd=tmp_path)
    assert ended.status == 0, ended.err
    width, neurons = 32, 64
    block = 4 * width + 4 * width * (width + 1) + neurons * (width + 1) + width * (neurons + 1)
    whole = width * (parameters + 2) + 2 * block + 2 * width + 6 * (width + 1)
    assert f"{whole:,} parameters" in ended.out
    assert "1,000,000 train, 1,000 validation, 2,000 test" in ended.out


def test_a_run_of_pictures_that_are_not_square_leaves_a_record_and_a_model(tmp_path):
    words = ("dataset=match_to_sample", *FEW, "model.patch=4", "compression=magnitude")
    ended = command(*VIT, *TRAINER, *words, cwd=tmp_path)
    assert ended.status == 0, ended.err
    run = run_directory(tmp_path)
    told = record(run)
    assert records.problems(told) == [] and told["status"] == "done"
    assert all(check["passed"] for check in told["checks"])
    assert told["choices"]["dataset"] == "match_to_sample"
    assert told["quality"]["compressed"].keys() == {"accuracy", "ece", "loss"}
    made = plan.checked(read_config(run))
    made.open()
    assert made.data.info.image == (3, 4, 68)
    seen = made.task.evaluate(gossamer.load(run / "export"), made.data, "test")
    assert seen == pytest.approx(told["quality"]["compressed"], rel=1e-5)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("dataset.tile=6",), ("dataset.tile=6: a multiple of 4",)),
        (("model.patch=3",), ("4 x 68 pixels", "type model.patch= a divisor of 4")),
        (("dataset.limit=10",), ("dataset.limit",)),
    ],
)
def test_what_cannot_work_is_one_line_that_names_keys_of_this_data_set(words, lines, tmp_path):
    ended = command("plan", *VIT, "dataset=match_to_sample", "model.patch=4", *words, cwd=tmp_path)
    assert ended.status == 2
    told = one_line(ended, *lines)
    assert "dataset.size" not in told
