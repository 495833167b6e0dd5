"""Rows by any key: what shares one, and what is said about it."""

from pathlib import Path
from typing import Any

import pytest

from gossamer.cli import rundir
from gossamer.errors import ConfigError
from gossamer.records import grouping
from gossamer.records import record as records
from gossamer.records.compare import Asked, compared
from gossamer.records.find import skim
from gossamer.records.runs import apart, data_of, model_of
from tests.records.examples import done


def put(root: Path, seed: int, lr: float, accuracy: float = 0.78, **changes: Any) -> None:
    digest = f"{lr}{sorted(changes.items())}"
    record = done(
        seed=seed,
        id=f"{digest}-s{seed}",
        config_digest=digest,
        config={"seed": seed, "trainer": {"lr": lr, "progress": seed == 1}},
        quality__compressed__accuracy=accuracy,
        **changes,
    )
    records.write(root / str(len(list(root.iterdir()))) / "record.json", record)


def told(root: Path, **asked: Any) -> tuple[list[dict[str, Any]], list[str]]:
    return compared(skim([root]), Asked(**asked))


def test_a_row_is_a_value_of_each_key(tmp_path: Path) -> None:
    for lr, accuracy in ((1e-4, 0.5), (1e-3, 0.75)):
        for seed in (1, 2):
            put(tmp_path, seed, lr, accuracy)
    rows, notes = told(tmp_path, by=["trainer.lr"])
    assert [(row["by"], row["quality"], row["n"]) for row in rows] == [
        ({"trainer.lr": 0.001}, 0.75, 2),
        ({"trainer.lr": 0.0001}, 0.5, 2),
    ]
    assert notes == [] and rows[0]["averages_over"] == {}


@pytest.mark.parametrize("key", ["model", "dataset", "task", "compression", "seed"])
def test_choices_and_the_seed_are_keys(tmp_path: Path, key: str) -> None:
    put(tmp_path, 1, 1e-3)
    put(tmp_path, 2, 1e-3, choices__model="bert", choices__compression=["a", "b"])
    rows, _ = told(tmp_path, by=[key])
    values = {row["by"][key] for row in rows}
    assert (
        values
        == {
            "model": {"minilm", "bert"},
            "dataset": {"docstrings"},
            "task": {"classification"},
            "compression": {"dsee", "a+b"},
            "seed": {1, 2},
        }[key]
    )


def test_a_run_without_the_key_has_a_row_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, 1, 1e-3)
    put(tmp_path, 2, 1e-4)
    records.write(tmp_path / "c" / "record.json", done(config={}, id="c", config_digest="c"))
    rows, _ = told(tmp_path, by=["trainer.lr"])
    assert {row["by"]["trainer.lr"] for row in rows} == {1e-3, 1e-4, None}


def test_what_a_row_averages_over_is_said(tmp_path: Path) -> None:
    put(tmp_path, 1, 1e-3, 0.5)
    put(tmp_path, 2, 1e-4, 0.75)
    rows, notes = told(tmp_path, by=["compression"])
    assert [row["quality"] for row in rows] == [0.625]
    assert rows[0]["averages_over"] == {"trainer.lr": [0.001, 0.0001]}
    assert notes == ["averages over trainer.lr (0.0001, 0.001): docstrings classification dsee"]


def test_of_a_choice_that_differs_only_the_choice_is_said(tmp_path: Path) -> None:
    for name in ("lora", "prune"):
        config = {"seed": 1, "compression": {name: {"rank": 1}}}
        record = done(id=name, config_digest=name, config=config, choices__compression=[name])
        records.write(tmp_path / name / "record.json", record)
    (row,), _ = told(tmp_path, by=["model"])
    assert row["averages_over"] == {"compression": ["lora", "prune"]}
    assert row["compression"] == "lora, prune"


@pytest.mark.parametrize(
    "change",
    [
        {"choices__dataset": "sst2"},
        {"choices__task": "regression"},
        {"budget__start": "init"},
        {"budget__steps": 100},
        {"budget__twin": [150]},
        {"budget__unspent": 7},
        {"budget__pair_equal": False},
        {"quality__primary": "loss"},
    ],
)
def test_no_key_mixes_data_sets_tasks_budgets_or_metrics_and_that_is_said(tmp_path, change) -> None:
    put(tmp_path, 1, 1e-3)
    put(tmp_path, 2, 1e-3, **change)
    rows, notes = told(tmp_path, by=["model"])
    assert [row["n"] for row in rows] == [1, 1]
    (note,) = notes
    assert note.startswith("not mixed: model=minilm was run ")
    assert ("sst2" in note) == (change == {"choices__dataset": "sst2"})


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        ({"path": "/a"}, {"path": "/b"}, "dataset.path (/a, /b)"),
        ({"limit": None}, {"limit": 9}, "dataset.limit (null, 9)"),
        ({"columns": ["a"]}, {"columns": ["b"]}, 'dataset.columns (["a"], ["b"])'),
        ({"task": "cola"}, {"task": "mrpc"}, "dataset.task (cola, mrpc)"),
    ],
)
def test_runs_on_other_data_of_the_same_choice_are_not_averaged(
    tmp_path, one, other, differs
) -> None:
    put(tmp_path, 1, 1e-3, 0.5, config__dataset=one)
    put(tmp_path, 2, 1e-3, 0.75, config__dataset=other)
    rows, notes = told(tmp_path, by=["compression"])
    assert [row["quality"] for row in rows] == [0.75, 0.5]
    assert notes == [
        "not mixed: compression=dsee was run on docstrings (classification) with "
        f"{differs}; each has its own row"
    ]
    assert len({row["overrides"] for row in rows}) == 2
    assert rows[0]["overrides"].startswith(f"dataset.{next(iter(other))}=")


def test_how_rows_are_batched_makes_no_other_data(tmp_path: Path) -> None:
    same = {"path": "/a", "batch_size": 8, "max_length": 64, "workers": 0, "cache": None}
    put(tmp_path, 1, 1e-3, config__dataset=same)
    put(tmp_path, 2, 1e-3, config__dataset={**same, "batch_size": 16, "workers": 2, "cache": "/c"})
    (row,), _ = told(tmp_path, by=["compression"])
    assert row["n"] == 2 and row["overrides"] == ""


def test_the_identity_of_data_and_model_is_the_same_for_lists_and_their_text() -> None:
    keys = {"dataset.b": ["x"], "dataset.a": None, "dataset.batch_size": 3, "model.c": {}, "d": 1}
    assert data_of(keys) == data_of({**keys, "dataset.b": '["x"]'}) == (("dataset.b", '["x"]'),)
    assert model_of(keys) == (("model.c", "{}"),)
    assert apart([data_of(keys), (), (("dataset.b", 1),)]) == 'dataset.b (["x"], null, 1)'


def test_the_same_note_on_many_rows_is_one_line(tmp_path: Path) -> None:
    for model in ("a", "b", "c"):
        for lr in (1e-4, 1e-3):
            put(tmp_path, 1, lr, choices__model=model)
    _, notes = told(tmp_path, by=["model"])
    assert notes == [
        "averages over trainer.lr (0.0001, 0.001): a docstrings classification (and 2 more rows)"
    ]
    lines = grouping.gathered(("x: ", "row", f" {n}") for n in range(100))
    assert len(lines) == grouping.MOST + 1 and lines[-1] == "… and 88 more such notes"


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"by": ["lr"]}, "--by lr: no run has such a key, did you mean trainer.lr?"),
        ({"metrics": ["acuracy"]}, "--metric acuracy: no run has such a figure, did you mean accu"),
        ({"metrics": ["checkpoint_bytes"]}, "did you mean size.checkpoint_bytes or size.dense_c"),
        ({"pareto": ["quality", "bytes"]}, "--pareto bytes: no run has such a figure"),
        ({"metrics": ["speed.batch 32.p50"]}, "did you mean speed.batch 1.p50"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(tmp_path: Path, asked, line) -> None:
    put(tmp_path, 1, 1e-3)
    with pytest.raises(ConfigError) as caught:
        told(tmp_path, **asked)
    assert line in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_any_figure_gets_its_mean_interval_and_difference(tmp_path: Path) -> None:
    for seed, size in ((1, 100), (2, 200)):
        loss = {"accuracy": 0.8, "loss": 0.5 + seed / 100}
        put(tmp_path, seed, 1e-3, size__checkpoint_bytes=size, quality__compressed=loss)
    names = ["loss", "size.checkpoint_bytes", "speed.batch 1.p50", "speed.batch 1.speed_up"]
    rows, _ = told(tmp_path, by=["model"], metrics=names)
    (figures,) = [row["metrics"] for row in rows]
    assert [figures[name]["value"] for name in names] == pytest.approx([0.515, 150, 8.0, 1.25])
    assert figures["size.checkpoint_bytes"]["interval"] == pytest.approx(12.706204736 * 50)
    assert figures["loss"]["difference"] == pytest.approx(0.015)
    assert figures["size.checkpoint_bytes"]["difference"] is None  # the twin's is no metric
    assert [figures[name]["direction"] for name in names] == ["min", "min", "min", "max"]


def test_a_metric_of_one_data_set_leaves_the_others_empty(tmp_path: Path) -> None:
    put(tmp_path, 1, 1e-3)
    metrics = {"accuracy": 0.5, "loss": 1.0, "f1": 0.25}
    put(tmp_path, 1, 1e-3, choices__dataset="mrpc", quality__compressed=metrics)
    rows, notes = told(tmp_path, metrics=["f1"])
    assert [row["metrics"]["f1"]["value"] for row in rows] == [None, 0.25] and notes == []


def test_idle_keys_are_those_that_the_digest_leaves_out() -> None:
    beside = {"overrides", "choices"}  # of a record, not of its configuration
    assert set(rundir.OUTSIDE) - beside - {"logger"} <= grouping.IDLE
    assert {f"trainer.{name}" for name in rundir.OUTSIDE_TRAINER} == grouping.IDLE_TRAINER
    assert grouping.idle("logger.project") and not grouping.idle("trainer.lr")
