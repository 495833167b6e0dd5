"""GLUE tasks from local folders in the published format."""

import pytest

from gossamer.data.glue import TASKS, Glue
from gossamer.errors import ConfigError, DataError
from tests.data.folders import folder, named, rows


def published(task, start, count, hidden=False):
    """Rows in the columns of a GLUE task."""
    facts = TASKS[task]
    if facts.classes is None:
        labels = [float(i % 6) for i in range(count)]
    else:
        labels = [i % facts.classes for i in range(count)]
    columns = {
        facts.text: [f"{task} text {start + i}" for i in range(count)],
        "label": [-1] * count if hidden else labels,
    }
    if facts.pair:
        columns[facts.pair] = [f"second of {start + i}" for i in range(count)]
    return columns


@pytest.mark.parametrize("task", TASKS)
def test_every_task_reads_its_columns_and_reports_its_metrics(task, tmp_path):
    names = TASKS[task].names
    path = folder(
        tmp_path,
        train=published(task, 0, 60),
        **{names.get("validation", "validation"): published(task, 100, 12)},
        **{names.get("test", "test"): published(task, 200, 12, hidden=True)},
    )
    info = Glue(task, path=path).info
    assert info.name == f"glue/{task}"
    assert info.metrics == TASKS[task].metrics
    assert info.rows == {"train": 54, "validation": 6, "test": 12}
    assert (info.classes is None) == (task == "stsb")


def test_the_primary_metrics_are_the_benchmarks():
    first = {task: facts.metrics[0] for task, facts in TASKS.items()}
    assert first["cola"] == "matthews"
    assert first["mrpc"] == first["qqp"] == "f1"
    assert first["stsb"] == "pearson"
    assert {first[task] for task in ("sst2", "mnli", "qnli", "rte", "wnli")} == {"accuracy"}


def test_stsb_with_public_scores_keeps_its_three_splits(tmp_path):
    def scored(start, count):
        columns = published("stsb", start, count)
        columns["score"] = columns.pop("label")
        return columns

    path = folder(tmp_path, train=scored(0, 30), validation=scored(50, 6), test=scored(80, 7))
    assert Glue("stsb", path=path).info.rows == {"train": 30, "validation": 6, "test": 7}


def test_leaked_rows_leave_training_and_the_notes_count_them(tmp_path):
    train, test = published("mrpc", 0, 40), published("mrpc", 100, 8)
    for column in train:
        train[column] += test[column][:3]
    path = folder(tmp_path, train=train, validation=published("mrpc", 200, 6), test=test)
    info = Glue("mrpc", path=path).info
    assert info.rows == {"train": 40, "validation": 6, "test": 8}
    assert info.notes == ("3 rows left out of train: their texts occur in a later split",)


def test_another_tasks_folder_is_refused(tmp_path):
    path = folder(tmp_path / "a", train=rows(0, 20), validation=rows(50, 4))
    with pytest.raises(DataError, match="no column 'sentence'"):
        Glue("sst2", path=path).load()
    three = {**published("rte", 0, 30), "label": [0, 1, 2] * 10}
    names = ["a", "b", "c"]
    path = folder(tmp_path / "b", train=named(three, names), validation=named(three, names))
    with pytest.raises(DataError, match=r"glue/rte: expected 2 classes, found 3"):
        Glue("rte", path=path).load()


def test_an_unknown_task_is_refused_with_the_nine():
    with pytest.raises(ConfigError, match=r"dataset.task=sst3: one of sst2, mrpc"):
        Glue("sst3")


def test_without_a_network_the_hub_is_refused_at_once_with_the_way_out(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr("gossamer.data.glue.hub_reachable", lambda: False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match=r"cannot be read from the hub .* dataset.path=FOLDER"):
        Glue("qnli", cache=str(tmp_path)).load()
