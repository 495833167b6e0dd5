"""What a comparison prints of what records say, which may come from anywhere."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.cli import main
from gossamer.records import printing
from gossamer.records import record as records
from gossamer.records.compare import Asked, rows
from tests.records.examples import done, failed

EVIL = "\x1b]0;owned\x07\x1b[2J\nsecond\r\u202eline\x9b"
INERT = "\\x1b]0;owned\\x07\\x1b[2J\\nsecond\\r\\u202eline\\x9b"


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """Two runs and a failed one whose every free text would act on a terminal."""
    for seed, more in ((1, "a"), (2, "b")):
        record = done(
            seed=seed,
            id=f"{EVIL}{seed}",
            config_digest=f"{EVIL}{seed}",
            overrides=[f"a={EVIL}{more}"],
            config={"key": EVIL, EVIL: more},
            choices__model=EVIL,
            choices__dataset=EVIL,
            choices__task=EVIL,
            choices__compression=[EVIL],
            quality__primary=EVIL,
            quality__dense={EVIL: 0.5},
            quality__compressed={EVIL: 0.5},
        )
        record["speed"][0]["workload"] = record["compute"]["workload"] = EVIL
        records.write(tmp_path / str(seed) / "record.json", record)
    records.write(tmp_path / "3" / "record.json", failed(error=EVIL))
    return tmp_path


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "json"])
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--by", "key", "--metric", EVIL],
        ["--by", EVIL, "--samples", "--pareto", f"{EVIL},size.parameters"],
        ["--baseline", "seed=1"],
    ],
)
def test_no_control_character_of_a_record_is_printed(evil: Path, capsys, format, flags) -> None:
    assert main(["compare", str(evil), *flags, "--format", format]) == 0
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert all(line.isprintable() for line in text.split("\n")), text
    assert f"failed: {evil / '3' / 'record.json'}: {INERT}" in told.out + told.err
    if format == "json":
        assert json.loads(told.out)[0]["model"] == EVIL  # whole, as JSON has it
    elif format != "markdown":
        assert INERT in told.out


@pytest.mark.parametrize(
    "flags",
    [["--by", "ke"], ["--metric", "x"], ["--baseline", "key=no"], ["--where", "ke = 1"]],
)
def test_an_error_that_names_what_is_there_is_one_line(evil: Path, capsys, flags) -> None:
    assert main(["compare", str(evil), *flags]) == 2
    told = capsys.readouterr().err
    assert told.endswith("\n") and told[:-1].isprintable()


@pytest.fixture
def printed(tmp_path: Path, capsys) -> Callable[..., str]:
    def show(record: dict, format: str, **asked) -> str:
        records.write(tmp_path / "record.json", record)
        printing.show(rows([tmp_path], Asked(**asked)), [], format, Asked(**asked))
        return capsys.readouterr().out

    return show


def test_markdown_is_no_markup(printed) -> None:
    record = done(choices__model="<b>`x`_y_*z*[a](b)|\\")
    assert (
        printed(record, "markdown")
        .splitlines()[2]
        .startswith(r"| \<b\>\`x\`\_y\_\*z\*\[a\](b)\|\\ | docstrings |")
    )


def test_csv_has_no_formula_and_numbers_stay_numbers(printed) -> None:
    record = done(
        choices__model="=1+1",
        choices__dataset="@SUM(A1)",
        choices__compression=["-x"],
        config={"key": "+1", "rate": -1.5},
        quality__compressed__accuracy=0.7,
    )
    text = printed(record, "csv", by=["model", "key", "rate", "compression"])
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["model"], row["dataset"], row["compression"]) == ("'=1+1", "'@SUM(A1)", "'-x")
    assert row["key"] == "'+1" and row["rate"] == "-1.5"
    assert float(row["difference"]) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "< 1e-15"), (2e-16, "< 1e-15"), (1e-15, "1e-15"), (0.0499, "0.05")]
)
def test_a_p_is_never_zero(p: float, text: str) -> None:
    assert printing.probability(p) == text
