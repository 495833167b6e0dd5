"""The record: what is written can be read again, and nothing else can."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import ResumeError, StageError
from gossamer.records import record as records
from tests.records.examples import changed, done, failed


def timed(**changes) -> dict:
    return changed(done()["speed"][0], **changes)


@pytest.mark.parametrize("record", [done(), failed(), failed("preempted")])
def test_a_written_record_is_read_back_as_it_was(tmp_path: Path, record) -> None:
    records.write(tmp_path / "a" / "record.json", record)
    assert records.read(tmp_path / "a" / "record.json") == record
    assert os.listdir(tmp_path / "a") == ["record.json"]


def test_tuples_are_lists_and_metrics_that_are_not_finite_null(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    nan = float("nan")
    records.write(path, done(budget__twin=(150, 150), quality__compressed__accuracy=nan))
    record = records.read(path)
    assert record["budget"]["twin"] == [150, 150]
    assert record["quality"]["compressed"]["accuracy"] is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"budget__steps": 1.5}, "budget.steps: expected int, got float"),
        ({"budget__steps": True}, "budget.steps: expected int, got bool"),
        ({"budget__pair_equal": 1}, "budget.pair_equal: expected bool, got int"),
        ({"budget__tokens": 1.5}, "budget.tokens: expected int | null, got float"),
        ({"budget__start": "warm"}, "budget.start: invalid enum value 'warm'"),
        ({"quality__split": "validation"}, "quality.split: invalid enum value 'validation'"),
        ({"quality__dense__loss": "0"}, "quality.dense[...]: expected float | null, got str"),
        ({"size__bits_per_weight": "4"}, "size.bits_per_weight: expected float | null, got str"),
        ({"compute__extra": 1}, "compute.extra: no such field"),
        ({"layers": {}}, "layers: expected array, got object"),
        ({"checks": [{"name": "a", "passed": True}]}, "checks[0].figure: missing"),
        ({"stages": [3]}, "stages[0]: expected object, got int"),
        ({"speed": [{"workload": "batch 1"}]}, "speed[0].device: missing"),
        ({"speed": [{"workload": "a", "skipped": 1}]}, "speed[0].skipped: expected str, got int"),
        ({"size__parameters": float("nan")}, "size.parameters: expected int, got null"),
        ({"speed": [timed(speed_up__p50=0.0)]}, "speed[0].speed_up.p50: expected float > 0.0"),
        ({"speed": [timed(speed_up__low=-1.0)]}, "speed[0].speed_up.low: expected float > 0.0"),
        ({"schema": 1}, "schema: 1, but this version of gossamer knows 2"),
        ({"status": "stopped"}, "status: invalid enum value 'stopped'"),
        ({"error": "nothing"}, "error: no such field"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_written(tmp_path: Path, changes, line) -> None:
    path = tmp_path / "record.json"
    with pytest.raises(ValueError) as caught:
        records.write(path, done(**changes))
    assert line in str(caught.value).splitlines()
    assert not path.exists()


@pytest.mark.parametrize("tokens", [None, 4096])
def test_tokens_are_told_where_there_are_some(tmp_path: Path, tokens) -> None:
    """A record from before they were told has none, and is as valid."""
    path = tmp_path / "record.json"
    assert "tokens" not in done()["budget"] and records.problems(done()) == []
    records.write(path, done(budget__tokens=tokens))
    assert records.read(path)["budget"]["tokens"] == tokens


def test_every_missing_field_is_a_problem() -> None:
    for name in done():
        record = done()
        del record[name]
        assert records.problems(record), name


def test_a_failed_record_needs_its_error() -> None:
    record = failed()
    del record["error"]
    assert records.problems(record) == ["error: missing"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "damaged"),
        (json.dumps(done())[:400], "damaged"),
        ("[" * 100_000, "damaged"),
        ("[1]", "no schema"),
        ('{"loss": 1}', "no schema"),
        (json.dumps(done(schema=7)), "schema: 7"),
        (json.dumps(done(size__parameters="many")), "size.parameters"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line_that_names_it(tmp_path, text, told) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ResumeError) as caught:
        records.read(path)
    assert str(path) in str(caught.value) and told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_record_of_another_version_is_nothing_to_delete(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(done(schema=1)))
    with pytest.raises(ResumeError) as caught:
        records.read(path)
    assert str(caught.value).endswith(
        "schema: 1, but this version of gossamer knows 2; read it with the version that wrote it, "
        "or run again with rerun=true"
    )
    for damaged in ({**done(), "layers": 1}, {"loss": 1}, [1]):
        path.write_text(json.dumps(damaged))
        with pytest.raises(ResumeError, match="; delete it to run again, or restore it"):
            records.read(path)


def test_bytes_that_are_no_text_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with pytest.raises(ResumeError, match=r"record\.json: cannot be read: No such file"):
        records.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ResumeError, match=r"record\.json: damaged"):
        records.read(path)


def test_a_full_disk_is_one_line_and_the_old_record_stays(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "record.json"
    records.write(path, failed())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(StageError, match="the disk is full") as caught:
        records.write(path, done())
    assert len(str(caught.value).splitlines()) == 1
    assert records.read(path) == failed()
    assert os.listdir(tmp_path) == ["record.json"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(name=st.sampled_from(sorted(done())), value=anything)
def test_a_field_of_any_kind_is_judged_without_an_exception(name: str, value) -> None:
    found = records.problems(done() | {name: value})
    assert all(isinstance(line, str) for line in found)
    if value is None and name != "sweep":  # which a single run has not
        assert found


def test_reading_records_never_imports_torch() -> None:
    code = (
        "import sys, gossamer.records.compare, gossamer.records.table, gossamer.records.metrics;"
        "print([m for m in ('torch', 'rich', 'wandb', 'scipy', 'duckdb') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_neighbours_that_nobody_knows_are_null(tmp_path):
    """A job in a queue cannot tell who shares its machine."""
    record = done()
    for entry in record["speed"]:
        if "skipped" not in entry:
            entry["neighbours"] = None
    records.write(tmp_path / "record.json", record)
    assert records.read(tmp_path / "record.json") == record
