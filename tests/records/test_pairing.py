"""The baseline: whom a run is paired with, and who stays without a partner."""

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from gossamer.errors import ConfigError
from gossamer.records import record as records
from gossamer.records.compare import Asked, compared, main
from gossamer.records.find import skim
from tests.records.examples import done


def put(root: Path, method: str, seed: int, accuracy: float, lr: float = 1e-3, **changes) -> Path:
    digest = f"{method}{lr}{sorted(changes.items())}"
    names = [] if method == "none" else method.split("+")
    record = done(
        seed=seed,
        id=f"{digest}-s{seed}",
        config_digest=digest,
        config={"seed": seed, "trainer": {"lr": lr}},
        choices__compression=names,
        quality__compressed__accuracy=accuracy,
        quality__dense__accuracy=0.1,
        **changes,
    )
    path = root / digest / str(seed) / "record.json"
    records.write(path, record)
    return path


def told(root: Path, *words: str, **asked: Any) -> tuple[dict[str, Any], list[str]]:
    rows, notes = compared(skim([root]), Asked(baseline=words or ("compression=none",), **asked))
    return {f"{row['compression']} {row['config_digest']}": row for row in rows}, notes


def row(rows: dict[str, Any], method: str) -> dict[str, Any]:
    (found,) = [row for name, row in rows.items() if name.split()[0] == method]
    return found


def test_the_difference_is_paired_by_seed_with_the_interval_and_p_of_a_t_test(tmp_path) -> None:
    dense, small = [0.80, 0.70, 0.90, 0.85], [0.79, 0.66, 0.88, 0.86]
    for seed, (one, other) in enumerate(zip(dense, small, strict=True), 1):
        put(tmp_path, "none", seed, one)
        put(tmp_path, "lora", seed, other)
    rows, notes = told(tmp_path)
    found, golden = row(rows, "lora"), stats.ttest_rel(small, dense)
    low, high = golden.confidence_interval(0.95)
    assert found["baseline_difference"] == pytest.approx((low + high) / 2)
    assert found["baseline_difference_interval"] == pytest.approx((high - low) / 2)
    assert found["baseline_difference_p"] == pytest.approx(golden.pvalue)
    assert found["baseline_seeds"] == [1, 2, 3, 4] and not found["baseline"]
    assert found["difference"] == pytest.approx(sum(small) / 4 - 0.1)  # to the twin, as ever
    assert row(rows, "none")["baseline"] and row(rows, "none")["baseline_difference"] is None
    assert notes == []


def test_seeds_without_a_partner_are_named_and_the_others_paired(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        put(tmp_path, "lora", seed, 0.7)
    put(tmp_path, "none", 2, 0.75)
    rows, notes = told(tmp_path)
    assert row(rows, "lora")["baseline_difference"] == pytest.approx(-0.05)
    assert row(rows, "lora")["baseline_seeds"] == [2]
    (note,) = notes
    assert note.startswith("no partner: minilm docstrings classification lora (")
    assert "seeds 1, 3: no run with compression=none has the same model, data set" in note


@pytest.mark.parametrize(
    "change",
    [
        {"choices__model": "bert"},
        {"choices__dataset": "sst2"},
        {"choices__task": "regression"},
        {"budget__total": 301},
        {"budget__start": "init"},
        {"compute__workload": "batch 8"},
        {"quality__primary": "loss"},
        {"config__dataset": {"path": "/data/b"}},
        {"config__model": {"source": "roberta-base"}},
    ],
)
def test_runs_of_another_model_data_set_task_budget_or_metric_are_no_partners(
    tmp_path: Path, change
) -> None:
    put(tmp_path, "lora", 1, 0.7)
    put(tmp_path, "none", 1, 0.75, **change)
    rows, notes = told(tmp_path)
    assert row(rows, "lora")["baseline_difference"] is None
    assert any(note.startswith("no partner: ") for note in notes)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"config__dataset": {"path": "/data/b"}}, "dataset.path (null, /data/b)"),
        ({"config__model": {"source": "roberta"}}, "model.source (null, roberta)"),
        ({"budget__start": "init"}, "budget.start (trained, init)"),
        (
            {"budget__total": 301, "config__dataset": {"limit": 9}},
            "budget.total (300, 301) and dataset.limit (null, 9)",
        ),
    ],
)
def test_what_keeps_the_nearest_from_being_the_partner_is_said(tmp_path, changes, what) -> None:
    put(tmp_path, "lora", 1, 0.7)
    put(tmp_path, "none", 1, 0.75, **changes)
    put(tmp_path, "none", 1, 0.75, budget__total=7, budget__start="pretrained", **{
        name: value for name, value in changes.items() if name.startswith("config")
    })  # fmt: skip
    _, (note,) = told(tmp_path)
    assert note.endswith(f", seed 1: no run with compression=none has the same {what}")


def test_batching_makes_no_other_data(tmp_path: Path) -> None:
    put(tmp_path, "lora", 1, 0.7, config__dataset={"path": "a", "batch_size": 8, "workers": 1})
    put(tmp_path, "none", 1, 0.75, config__dataset={"path": "a", "batch_size": 32, "limit": None})
    rows, notes = told(tmp_path)
    assert row(rows, "lora")["baseline_difference"] == pytest.approx(-0.05) and notes == []


def test_a_baseline_may_be_another_model_if_it_names_one(tmp_path: Path) -> None:
    put(tmp_path, "lora", 1, 0.7)
    put(tmp_path, "none", 1, 0.75, choices__model="bert")
    rows, notes = told(tmp_path, "model=bert")
    assert row(rows, "lora")["baseline_difference"] == pytest.approx(-0.05) and notes == []


def test_a_baseline_may_have_another_source_if_it_names_that(tmp_path: Path) -> None:
    put(tmp_path, "lora", 1, 0.7, config__model={"source": "bert"})
    put(tmp_path, "none", 1, 0.75, config__model={"source": "roberta"})
    rows, notes = told(tmp_path, "model.source=roberta")
    assert row(rows, "lora")["baseline_difference"] == pytest.approx(-0.05) and notes == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_runs_that_share_a_seed_are_one_pair(tmp_path: Path, seeds: int) -> None:
    """Seven rates against one of the baseline: as many pairs as seeds, not seven times that."""
    small = {}
    for seed in range(1, seeds + 1):
        put(tmp_path, "none", seed, 0.8)
        for rate in range(7):
            small[seed, rate] = 0.7 + seed / 100 + rate / 1e6
            put(tmp_path, "lora", seed, small[seed, rate], lr=rate)
    rows, _ = told(tmp_path, "compression=none", "trainer.lr=1e-3", by=["compression"])
    found = next(row for name, row in rows.items() if name.startswith("lora"))
    means = [sum(small[seed, r] for r in range(7)) / 7 for seed in range(1, seeds + 1)]
    assert found["n"] == seeds and found["runs"] == found["baseline_runs"] == 7 * seeds
    assert found["baseline_seeds"] == found["seeds"] == list(range(1, seeds + 1))
    assert found["baseline_difference"] == pytest.approx(sum(means) / seeds - 0.8)
    if seeds == 1:
        assert found["quality_interval"] is found["difference_interval"] is None
        assert found["baseline_difference_p"] is found["difference_p"] is None
    else:
        golden = stats.ttest_rel(means, [0.8] * seeds)
        assert found["baseline_difference_p"] == pytest.approx(golden.pvalue)
        half = stats.t.ppf(0.975, seeds - 1) * stats.sem(means)
        assert found["quality_interval"] == pytest.approx(half)


def test_of_a_row_that_averages_the_runs_with_a_partner_are_counted(tmp_path, capsys) -> None:
    for seed in (1, 2):
        put(tmp_path, "lora", seed, 0.7 + seed / 100, lr=1.0)
        put(tmp_path, "lora", seed, 0.6, lr=2.0)
        put(tmp_path, "none", seed, 0.75, lr=1.0)
        put(tmp_path, "none", seed, 0.75, lr=3.0)
    main([str(tmp_path)], "table", Asked(baseline=("compression=none",), by=["compression"]))
    lines = capsys.readouterr().out.splitlines()
    assert "seeds: 2  runs: 4" in lines[0]
    (line,) = [line for line in lines[1:] if line.startswith("lora")]
    assert ", 2 of 4" in line


def test_of_several_the_one_that_is_configured_alike_is_the_partner(tmp_path: Path) -> None:
    for lr, accuracy in ((1e-3, 0.75), (1e-4, 0.5)):
        put(tmp_path, "none", 1, accuracy, lr)
        put(tmp_path, "lora", 1, 0.75, lr)
    rows, notes = told(tmp_path)
    differences = [r["baseline_difference"] for n, r in rows.items() if n.startswith("lora")]
    assert sorted(differences) == pytest.approx([0, 0.25]) and notes == []


def test_where_no_one_is_configured_alike_it_says_what_to_add(tmp_path: Path) -> None:
    for lr in (1e-3, 1e-4):
        put(tmp_path, "none", 1, 0.75, lr)
    put(tmp_path, "lora", 1, 0.75, 1e-2)
    rows, (note,) = told(tmp_path)
    assert row(rows, "lora")["baseline_difference"] is None
    assert "none has its trainer.lr; add trainer.lr=… to --baseline" in note
    rows, notes = told(tmp_path, "compression=none", "trainer.lr=1e-4")
    assert row(rows, "lora")["baseline_difference"] == 0 and notes[0:1] == [
        note for note in notes if "none" in note
    ]


def test_several_that_nothing_tells_apart_are_no_partner(tmp_path: Path) -> None:
    put(tmp_path, "none", 1, 0.75)
    put(tmp_path, "none", 1, 0.70, host="another")
    put(tmp_path, "lora", 1, 0.75)
    rows, (note,) = told(tmp_path)
    assert row(rows, "lora")["baseline_difference"] is None
    assert "2 runs with compression=none are alike; choose with --where" in note


def test_every_metric_asked_for_has_its_difference(tmp_path: Path) -> None:
    for seed in (1, 2):
        put(tmp_path, "none", seed, 0.75, size__state_bytes=1000)
        path = put(tmp_path, "lora", seed, 0.75)
        record = records.read(path)
        record["size"]["state_bytes"] = 900 + seed
        records.write(path, record)
    rows, _ = told(tmp_path, metrics=["size.state_bytes"])
    figure = row(rows, "lora")["metrics"]["size.state_bytes"]
    assert figure["baseline_difference"] == -98.5
    assert figure["baseline_difference_interval"] == pytest.approx(12.706204736 * 0.5)


@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("trainer.lr=0.001", True),
        ("trainer.lr=1e-3", True),
        ("trainer.lr=1e-4", False),
        ("trainer.lr=x", False),
        ("compression=a+b", True),
        ("compression=[a, b]", True),
        ("compression=b+a", False),
        ("seed=1", True),
        ("trainer.clip=null", True),
        ("trainer.deep=True", True),
        ("trainer.betas=[0.9, 0.99]", True),
    ],
)
def test_a_word_names_a_value_as_overrides_do(tmp_path: Path, word: str, same: bool) -> None:
    config = {"trainer": {"lr": 1e-3, "clip": None, "deep": True, "betas": [0.9, 0.99]}}
    record = done(config=config, choices__compression=["a", "b"])
    records.write(tmp_path / "record.json", record)
    if same:
        assert told(tmp_path, word)[1] == []
    else:
        with pytest.raises(ConfigError, match="no finished run here has that"):
            told(tmp_path, word)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["none"], "--baseline none: type key=value, e.g. compression=none"),
        (["compresion=none"], "did you mean compression?"),
        (["compression=none"], "no finished run here has that (compression is lora); name one"),
    ],
)
def test_a_baseline_that_is_none_is_one_line(tmp_path: Path, words, line) -> None:
    put(tmp_path, "lora", 1, 0.7)
    with pytest.raises(ConfigError) as caught:
        told(tmp_path, *words)
    assert line in str(caught.value) and len(str(caught.value).splitlines()) == 1
