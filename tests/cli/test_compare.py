"""gossamer compare through the door: every flag reaches the comparison."""

import csv
import io
import json
from pathlib import Path

import pytest

from gossamer.cli import main
from gossamer.records import printing
from tests.records import synthetic


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Five methods on two models and two data sets, five seeds each."""
    root = tmp_path_factory.mktemp("outputs")
    synthetic.write(root, 100)
    return root


def test_every_flag_is_heard(runs: Path, capsys) -> None:
    flags = ["--by", "model", "compression", "--metric", "loss", "size.checkpoint_bytes"]
    flags += ["--baseline", "compression=none", "--pareto", "loss,size.checkpoint_bytes"]
    flags += ["--where", "dataset = 'sst2' and compression != 'dsee'", "--format", "json"]
    assert main(["compare", str(runs), *flags]) == 0
    told = capsys.readouterr()
    rows = json.loads(told.out)
    assert len(rows) == 2 * 4 and told.err == ""
    assert {row["dataset"] for row in rows} == {"sst2"}
    assert sorted(rows[0]["by"]) == ["compression", "model"]
    assert set(rows[0]["metrics"]) == {"loss", "size.checkpoint_bytes"}
    for row in rows:
        assert row["baseline"] == (row["compression"] == "none")
        assert row["baseline"] or row["metrics"]["loss"]["baseline_seeds"] == [1, 2, 3, 4, 5]
        assert isinstance(row["pareto"], bool)


def test_csv_has_a_column_for_each_key_and_figure(runs: Path, capsys) -> None:
    flags = ["--by", "trainer.lr", "compression", "--metric", "loss", "--format", "csv"]
    assert main(["compare", str(runs), *flags]) == 0
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert {row["trainer.lr"] for row in rows} == {"1e-05"}
    assert all(float(row["loss"]) > 0 < float(row["loss interval"]) for row in rows)
    assert "averages over model (bert_tiny, minilm)" in told.err


def test_a_front_and_a_baseline_stand_in_the_table(runs: Path, capsys) -> None:
    flags = ["--baseline", "compression=none", "--pareto", "quality,size.checkpoint_bytes"]
    assert main(["compare", str(runs), *flags, "--across-models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "front" in lines[1] and "vs baseline" in lines[1]
    (dense,) = [line for line in lines if line.startswith("minilm     sst2        none ")]
    assert " baseline " in dense
    (other,) = [line for line in lines if line.startswith("minilm     sst2        lora ")]
    assert ", p 0.0" in other and other.count("±") == 3


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--by", "lr"], "--by lr: no run has such a key, did you mean trainer.lr?"),
        (["--metric", "los"], "--metric los: no run has such a figure, did you mean loss?"),
        (["--baseline", "none"], "--baseline none: type key=value, e.g. compression=none"),
        (["--where", "lr > 1"], "--where lr > 1: no column lr, did you mean trainer.lr?"),
    ],
)
def test_a_wrong_flag_is_one_line_and_status_2(runs: Path, capsys, flags, line) -> None:
    assert main(["compare", str(runs), *flags]) == 2
    assert capsys.readouterr().err == line + "\n"


def test_a_condition_that_is_true_of_nothing_is_status_1(runs: Path, capsys) -> None:
    assert main(["compare", str(runs), "--where", "seed > 99"]) == 1
    assert "true of none of 100 runs" in capsys.readouterr().out


def test_titles_are_stacked_where_a_terminal_is_narrow(runs: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(printing.sys.stdout, "isatty", lambda: True, raising=False)
    widths = {}
    for columns in (80, 400):
        monkeypatch.setenv("COLUMNS", str(columns))
        main(["compare", str(runs)])
        lines = capsys.readouterr().out.splitlines()
        widths[columns] = max(map(len, lines))
        assert ("non-zero MACs (theory)" in lines[1]) == (columns == 400)
    assert widths[80] < widths[400]
