"""A run that chose what attention sees, wherever its record is told."""

import csv
import io
from pathlib import Path

import pytest

from gossamer.records import compare, table
from gossamer.records import record as records
from gossamer.records.loggers import figures
from gossamer.records.report.gather import gather
from gossamer.records.runs import runs
from gossamer.records.wandb_content import layers, summary
from tests.records.examples import attentive, done


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two seeds of it, and a run of another method."""
    for seed in (1, 2):
        record = attentive(seed=seed, id=f"abc-s{seed}", config_digest="abc")
        records.write(tmp_path / f"s{seed}" / "record.json", record)
    other = done(id="def-s1", config_digest="def", choices__compression=["lora"])
    records.write(tmp_path / "lora" / "record.json", other)
    return tmp_path


def printed(capsys, record: dict) -> str:
    table.summary(record, "outputs/a")
    return capsys.readouterr().out


def line(text: str, label: str) -> list[str]:
    found = next(line for line in text.splitlines() if line.strip().startswith(label))
    return found.strip().removeprefix(label).split()


def test_its_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    records.write(tmp_path / "record.json", attentive())
    assert records.read(tmp_path / "record.json") == attentive()


def test_the_table_tells_the_share_of_attention_and_of_the_whole_model(capsys) -> None:
    text = printed(capsys, attentive())
    assert line(text, "attention MACs, theoretical") == ["300", "156", "-48.0%"]
    assert line(text, "with them the whole model") == ["4.00", "k", "3.86", "k", "-3.6%"]
    assert line(text, "attention map, by element") == ["100.0%", "25.8%"]
    assert line(text, "by tiles of 128 × 128") == ["100.0%", "93.0%"]
    assert "none is executed less; a mask over single keys makes nothing faster" in text
    assert line(text, "MACs per sample, executed")[-1] == "+2.5%", "what is executed stays so"


def test_the_table_says_when_choosing_costs_more_than_it_saves(capsys) -> None:
    text = printed(capsys, attentive(compute__attention_macs=330))
    assert line(text, "attention MACs, theoretical")[-1] == "+10.0%"
    assert "choosing the keys takes as many MACs as it saves, or more" in text
    assert "makes nothing faster" not in text


def test_what_is_executed_less_is_not_called_theory_only(capsys) -> None:
    text = printed(capsys, attentive(compute__macs_effective=3_000))  # tokens are gone
    assert "none is executed less" not in text


def test_tiles_that_were_not_counted_have_no_line(capsys) -> None:
    text = printed(capsys, attentive(compute__attention_block_density=None))
    assert "attention map" in text and "tiles" not in text


def test_other_runs_have_no_word_of_it(capsys) -> None:
    assert "attention M" not in printed(capsys, done())
    assert not any("attention" in name for name in figures(done()))


def test_a_comparison_tells_both_shares_and_sorts_by_them(root: Path, capsys) -> None:
    assert compare.main([str(root)]) == 0
    head, *body = capsys.readouterr().out.splitlines()[1:]
    for word in ("attention MACs (theory)", "of the model (theory)", "attention map kept"):
        assert word in head
    mine = next(each for each in body if "sparsifiner" in each)
    assert all(word in mine for word in ("-48.0%", "-3.6%", "25.8%", "93.0%"))
    assert "-48.0%" not in next(each for each in body if "lora" in each)
    rows = {row["compression"]: row for row in compare.rows([str(root)])}
    assert rows["sparsifiner"]["attention_saved"] == pytest.approx(0.48)
    assert rows["sparsifiner"]["attention_macs_dense"] == 300
    assert rows["lora"]["attention_saved"] is None


def test_its_figures_can_be_asked_for_and_more_saved_is_better(root: Path, capsys) -> None:
    names = ("compute.attention_macs", "compute.attention_saved_of_model")
    where = "compute.attention_saved > 0.4"
    (row,) = compare.rows([str(root)], compare.Asked(metrics=names, where=where))
    assert row["metrics"][names[0]]["value"] == 156 and row["n"] == 2
    assert row["metrics"][names[1]]["value"] == pytest.approx(0.036)
    (run, *_) = [each for each in runs(compare.skim([root]).records) if each.methods != ["lora"]]
    assert [run.direction(name) for name in names] == ["min", "max"]
    assert compare.main([str(root)], "table", compare.Asked(metrics=names)) == 0
    assert "0.0360 ± 0.0000" in capsys.readouterr().out, "a share, not an amount"


def test_csv_has_a_column_for_each(root: Path, capsys) -> None:
    assert compare.main([str(root)], "csv") == 0
    rows = {row["compression"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert float(rows["sparsifiner"]["attention_saved_of_model"]) == pytest.approx(0.036)
    assert float(rows["sparsifiner"]["attention_block_density"]) == pytest.approx(0.93)
    assert rows["lora"]["attention_macs"] == ""


def test_the_report_s_sentence_marks_it_as_theory(root: Path) -> None:
    records.write(
        root / "lora" / "record.json", attentive(seed=3, id="abc-s3", config_digest="abc")
    )
    (scope,) = gather([root], compare.find([root]))["scopes"]
    told = " ".join(scope["details"])
    assert (
        "attention MACs -48.0%, which is -3.6% of the whole model's (theory only); "
        "25.8% of the attention map kept, 93.0% of its 128 × 128 tiles"
    ) in told


def test_the_report_keeps_maps_apart_from_weights_and_figures_of_layers_together(
    root: Path,
) -> None:
    (root / "s1" / "metrics.jsonl").write_text(
        '{"step": 1, "time": 5, "train/loss": 1, "sparsify/recall 0": 0.5}\n'
        '{"step": 2, "time": 6, "train/loss": 2}\n'
    )
    data = gather([root], compare.find([root]))
    run, other = (next(r for r in data["runs"] if r["key"] == key) for key in ("abc-s1", "def-s1"))
    assert run["bits"] == [32.0, None, None] and run["tiles"] == [None, 0.93, 0.93]
    listed = data["layers"][run["layers"]]
    assert [layer.get("dense_macs") for layer in listed] == [None, 150, 150]
    assert run["compute"]["attention_saved"] == pytest.approx(0.48)
    assert run["stages"][1]["figures"] == {"found": 7.0}
    assert run["stages"][1]["series"] == {"recall": [0.5, 0.75], "oracle recall": [0.9, 1.0]}
    assert set(run["curves"]) == {"train/loss"}, "one value of each layer is no curve"
    assert "tiles" not in other and "attention_saved" not in other["compute"]
    assert other["stages"][0]["series"] == {}


def test_loggers_and_wandb_get_both_shares_the_maps_and_mean_recalls() -> None:
    found = summary(attentive())
    assert found["compute/attention_saved"] == pytest.approx(0.48)
    assert found["compute/attention_saved_of_model"] == pytest.approx(0.036)
    assert found["compute/attention_block_density"] == 0.93
    assert found["stages/2 sparsifiner.sparsify/recall, mean of layers"] == 0.625
    assert found["stages/2 sparsifiner.sparsify/found"] == 7.0
    assert not any(name.endswith(("recall 0", "recall 1")) for name in found)
    columns, rows = layers(attentive())
    assert [row[columns.index("dense_macs")] for row in rows] == [None, 150, 150]
