"""gossamer compare: what it averages, and what it refuses to."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.records import compare
from gossamer.records import record as records
from tests.records.examples import TIMES, done, failed


def put(root: Path, name: str, record: dict) -> Path:
    path = root / name / "record.json"
    records.write(path, record)
    return path


def seed(number: int, accuracy: float = 0.78, **changes) -> dict:
    """One seed of a configuration; `config_digest` (and choices) make it another one."""
    digest = changes.get("config_digest", "abcdef012345")
    return done(
        seed=number,
        id=f"{digest}-s{number}",
        quality__compressed__accuracy=accuracy,
        **changes,
    )


def output(capsys, *paths: Path, format: str = "table") -> tuple[int, str]:
    status = compare.main([str(path) for path in paths], format)  # type: ignore[arg-type]
    told = capsys.readouterr()
    return status, told.out + told.err


def test_seeds_give_a_mean_with_a_t_interval_and_a_paired_difference(tmp_path: Path) -> None:
    # the twins differ by seed: paired, the difference is the same in all three
    for number, (dense, accuracy) in enumerate([(0.8, 0.79), (0.7, 0.69), (0.9, 0.89)], 1):
        record = seed(number, accuracy, quality__dense={"accuracy": dense})
        put(tmp_path, f"seed{number}", record)
    (row,) = compare.rows([str(tmp_path)])
    assert row["n"] == 3 and row["seeds"] == [1, 2, 3]
    assert row["quality"] == pytest.approx(0.79)
    assert row["quality_interval"] == pytest.approx(4.302652729911275 * 0.1 / 3**0.5)
    assert row["difference"] == pytest.approx(-0.01)
    assert row["difference_interval"] == pytest.approx(0, abs=1e-12)
    assert row["trainable_parameters"] == 500
    assert row["speed_up"] == {"batch 1": {"p50": pytest.approx(1.25), "low": 1.2, "high": 1.3}}


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    put(tmp_path, "a", seed(1))
    (row,) = compare.rows([str(tmp_path)])
    assert row["quality_interval"] is None and row["difference_interval"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"choices__dataset": "sst2"},
        {"choices__model": "bert"},
        {"choices__task": "regression"},
        {"choices__compression": ["lora"]},
        {"config_digest": "fedcba543210"},
        {"budget__steps": 100},
        {"budget__twin": [150]},
        {"quality__direction": "min"},
        {"compute__workload": "batch 8"},
    ],
)
def test_what_differs_is_never_averaged(tmp_path: Path, change) -> None:
    put(tmp_path, "a", seed(1, 0.5))
    put(tmp_path, "b", seed(2, 0.75, **change))
    assert sorted(row["quality"] for row in compare.rows([str(tmp_path)])) == [0.5, 0.75]


def test_one_configuration_under_two_budgets_is_said(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1))
    put(tmp_path, "b", seed(2, budget__steps=100, budget__total=250))
    status, text = output(capsys, tmp_path)
    assert status == 0
    assert "not mixed: minilm docstrings classification dsee (abcdef01) was run with 2" in text


def test_latency_of_two_devices_is_not_averaged(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1))
    other = done()["speed"][0] | {"device": "another", "compressed": {**TIMES, "p50": 2.0}}
    put(tmp_path, "b", seed(2, speed=[other]))
    (row,) = compare.rows([str(tmp_path)])
    assert row["n"] == 2 and row["speed_up"] == {}
    assert "batch 1 on another was measured for 1 of 2 runs" in output(capsys, tmp_path)[1]


def test_each_device_has_its_own_column(tmp_path: Path) -> None:
    here = done()["speed"][0]
    there = here | {"device": "a GPU", "speed_up": {"p50": 5.0, "low": 4.9, "high": 5.1}}
    for number in (1, 2):
        put(tmp_path, str(number), seed(number, speed=[here, there]))
    (row,) = compare.rows([str(tmp_path)])
    assert {name: ratio["p50"] for name, ratio in row["speed_up"].items()} == {
        "batch 1 on a processor": pytest.approx(1.25),
        "batch 1 on a GPU": pytest.approx(5.0),
    }


def test_records_of_another_schema_are_left_out_by_name(tmp_path: Path, capsys) -> None:
    path = put(tmp_path, "a", seed(1))
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    put(tmp_path, "b", seed(2))
    status, text = output(capsys, tmp_path)
    assert status == 0
    (line,) = [line for line in text.splitlines() if str(path) in line]
    assert line.startswith("left out: ") and "schema: 1" in line


def test_a_damaged_record_is_named_in_one_line_and_the_others_shown(tmp_path, capsys) -> None:
    path = put(tmp_path, "a", seed(1))
    path.write_text(path.read_text()[:300])
    put(tmp_path, "b", seed(2, 0.7654))
    status, text = output(capsys, tmp_path)
    assert status == 0 and "0.7654" in text
    assert len([line for line in text.splitlines() if str(path) in line]) == 1


def test_failed_and_preempted_runs_are_counted_and_listed(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1))
    bad = put(tmp_path, "b", failed(error="loss is nan at step 7"))
    put(tmp_path, "c", failed("preempted", error="stopped by SIGTERM"))
    status, text = output(capsys, tmp_path)
    assert status == 0
    assert "1 failed, 1 preempted" in text
    assert f"failed: {bad}: loss is nan at step 7" in text
    assert "stopped by SIGTERM" in text


def test_a_copied_run_counts_once_and_the_newer_one(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1, 0.5, finished="2026-01-01T00:00:00+00:00"))
    put(tmp_path, "b", seed(1, 0.75, finished="2026-02-01T00:00:00+00:00"))
    put(tmp_path, "c", seed(1, 0.25, finished="2025-02-01T00:00:00+00:00"))
    (row,) = compare.rows([str(tmp_path)])
    assert (row["n"], row["quality"]) == (1, 0.75)
    assert output(capsys, tmp_path)[1].count("the same run as") == 2


def test_a_file_named_twice_is_read_once(tmp_path: Path, capsys) -> None:
    path = put(tmp_path, "a", seed(1))
    status, text = output(capsys, tmp_path, path, path.parent)
    assert status == 0 and "same run" not in text


@pytest.mark.parametrize("format", ["table", "csv", "json", "markdown"])
def test_an_empty_folder_is_one_line_and_status_1(tmp_path: Path, capsys, format) -> None:
    status = compare.main([str(tmp_path)], format)
    told = capsys.readouterr()
    assert status == 1
    lines = [line for line in (told.out + told.err).splitlines() if line != "[]"]
    assert len(lines) == 1 and str(tmp_path) in lines[0]


def test_rows_are_told_apart_by_the_overrides_that_differ(tmp_path: Path) -> None:
    common = ["compression=dsee", "trainer.steps=10"]
    for digest, more in (("aaaa", ["compression.dsee.keep=0.5"]), ("bbbb", ["seed=1"])):
        put(tmp_path, digest, seed(1, config_digest=digest, overrides=common + more))
    found = {row["config_digest"]: row["overrides"] for row in compare.rows([str(tmp_path)])}
    assert found == {"aaaa": "compression.dsee.keep=0.5", "bbbb": ""}


def test_rows_that_no_override_tells_apart_show_their_digest(tmp_path: Path) -> None:
    for digest in ("aaaa0000", "bbbb0000"):
        put(tmp_path, digest, seed(1, config_digest=digest))
    assert [r["overrides"] for r in compare.rows([str(tmp_path)])] == ["(aaaa0000)", "(bbbb0000)"]


def test_a_value_that_is_not_finite_gives_no_mean(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1, 0.5))
    put(tmp_path, "b", seed(2, float("nan")))
    (row,) = compare.rows([str(tmp_path)])
    assert row["quality"] is None and row["difference"] is None and row["n"] == 2
    assert "accuracy of seed 2 is not finite" in output(capsys, tmp_path)[1]


def test_the_best_comes_first_in_the_metrics_own_direction(tmp_path: Path) -> None:
    for digest, value in (("a", 0.5), ("b", 0.75)):
        put(tmp_path, digest, seed(1, value, config_digest=digest))
        worse = {"choices__dataset": "lm", "quality__direction": "min"}
        put(tmp_path, digest + "m", seed(1, value, config_digest=digest + "m", **worse))
    values = [(row["dataset"], row["quality"]) for row in compare.rows([str(tmp_path)])]
    assert values == [("docstrings", 0.75), ("docstrings", 0.5), ("lm", 0.5), ("lm", 0.75)]


def test_dense_runs_have_no_difference_to_themselves(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1, choices__compression=["none"]))
    (row,) = compare.rows([str(tmp_path)])
    assert row["compression"] == "none" and row["difference"] is None and row["speed_up"] == {}
    assert "faster" not in output(capsys, tmp_path)[1]


def test_unequal_pairs_are_marked(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1, budget__pair_equal=False))
    assert "(unequal pair)" in output(capsys, tmp_path)[1]


def test_csv_and_json_have_stdout_to_themselves(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1))
    put(tmp_path, "b", failed())
    compare.main([str(tmp_path)], "json")
    told = capsys.readouterr()
    assert json.loads(told.out) == compare.rows([str(tmp_path)]) and "1 failed" in told.err
    compare.main([str(tmp_path)], "csv")
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["quality"] == "0.78" and row["speed_up batch 1"] == "1.25"


def test_markdown_is_one_table_and_then_the_notes(tmp_path: Path, capsys) -> None:
    put(tmp_path, "a", seed(1))
    lines = output(capsys, tmp_path, format="markdown")[1].splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1


def test_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    put(tmp_path, "a", seed(1, overrides=["compression.dsee.a_rather_long_key=0.123456789"]))
    put(tmp_path, "b", seed(1, config_digest="b"))
    code = f"from gossamer.records.compare import main; main([{str(tmp_path)!r}])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(ran.stdout.splitlines()) == 4, ran.stdout  # shared values, header, two rows
    assert "…" not in ran.stdout
