"""`--where`: conditions over keys and figures, and nothing else."""

from pathlib import Path

import pytest

from gossamer.errors import ConfigError
from gossamer.records import record as records
from gossamer.records.compare import Asked, compared
from gossamer.records.find import skim
from gossamer.records.query import where
from gossamer.records.runs import runs
from tests.records.examples import done


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Seeds 1 to 3, with a learning rate, an accuracy and a latency each."""
    for seed, lr, method in ((1, 1e-4, []), (2, 1e-3, ["lora"]), (3, 1e-2, ["lora", "prune"])):
        record = done(
            seed=seed,
            id=str(seed),
            config_digest=str(seed),
            config={"trainer": {"lr": lr, "fast": seed > 1, "tags": ["a", "b"]}, "it's": seed},
            choices__compression=method,
            quality__compressed__accuracy=None if seed == 3 else 0.7 + seed / 100,
        )
        records.write(tmp_path / str(seed) / "record.json", record)
    return tmp_path


def chosen(root: Path, sql: str) -> list[int]:
    return [run.record.seed for run in where(sql, runs(skim([root]).records))]


@pytest.mark.parametrize(
    ("sql", "seeds"),
    [
        ("trainer.lr > 1e-4", [2, 3]),
        ("Trainer.LR > 5E-4 AND seed < 3", [2]),
        ('"trainer.lr" = 0.001', [2]),
        ("compression = 'none' or compression like '%prune'", [1, 3]),
        ("compression in ('lora', 'trainer.lr')", [2]),
        ("trainer.fast", [2, 3]),
        ("not trainer.fast", [1]),
        ("trainer.tags like '%a%'", [1, 2, 3]),
        ("accuracy is null", [3]),
        ("quality > 0.715 and accuracy < dense.accuracy", [2]),
        ('"speed.batch 1.p50" < 9 and size.checkpoint_bytes >= 360000', [1, 2, 3]),
        ("budget.steps = 150 and config_digest = '2'", [2]),
        ("accuracy = (select max(accuracy) from runs)", [2]),
        ("sqrt(trainer.lr) > 0.05 -- a comment", [3]),
        ("'it''s' = 'it''s' and seed = 1", [1]),
        ('"it\'s" = 2', [2]),
        ("true", [1, 2, 3]),
        ("false", []),
        ("null", []),
    ],
)
def test_a_condition_chooses_runs(three: Path, sql: str, seeds: list[int]) -> None:
    assert chosen(three, sql) == seeds


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("trainer.lrr > 1", "no column trainer.lrr, did you mean trainer.lr"),
        ("acuracy > 1", "no column acuracy, did you mean accuracy"),
        ("checkpoint_bytes > 1", "did you mean size.checkpoint_bytes"),
        ("accuracy >", "syntax error"),
        ("accuracy > 'many'", "many"),
        ("true) ; drop table runs; select (1", "syntax error"),
        ("true; drop table runs", "Parser Error"),
        ("1=1) union select 99 where (1=1", "syntax error"),
        ("1=1) from runs union all select 0, (true", "syntax error"),
        ("1=1) from runs, runs as twice where (1=1", "syntax error"),
        ("true union all select true", "Parser Error"),
        ("true from runs where false", "Parser Error"),
        ("true, false", "only a single expression"),
        ("seed", "no condition that is true or false of each run"),
        ("*", "no condition that is true or false of each run"),
        ("unnest([true, true])", "no condition that is true or false of each run"),
        ("count(*) > 1", "must appear in the GROUP BY"),
        ("-- nothing", "SELECT clause without selection list"),
    ],
)
def test_a_wrong_condition_is_one_line_and_says_what_would_be_right(three, sql, told) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(three, sql)
    assert str(caught.value).startswith(f"--where {sql}: ") and told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "seed in (select count(*) from read_csv('{file}'))",
        "seed in (select count(*) from read_text('{file}'))",
        "seed in (select count(*) from read_blob('{file}'))",
        "seed in (select count(*) from '{file}')",
        "seed in (select count(*) from glob('{folder}/*'))",
        "true) ; copy (select 1) to '{folder}/written'; select (1",
        "true) ; set enable_external_access = true; select (1",
        "true) ; attach '{folder}/written'; select (1",
    ],
)
def test_a_condition_reads_and_writes_no_file(three: Path, tmp_path: Path, sql: str) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError):
        chosen(three, sql.format(file=file, folder=tmp_path))
    assert sorted(tmp_path.iterdir()) == before


def test_a_text_in_a_record_is_no_sql(tmp_path: Path) -> None:
    evil = "x') ; copy (select 1) to 'written"
    record = done(config={"trainer": {evil: 1, "lr": evil}}, choices__model=evil)
    records.write(tmp_path / "record.json", record)
    assert chosen(tmp_path, "trainer.lr = model") == [1]


def test_rows_are_of_the_runs_that_were_chosen_and_none_is_said(three: Path) -> None:
    rows, _ = compared(skim([three]), Asked(where="trainer.lr < 5e-3"))
    assert sorted(row["seeds"] for row in rows) == [[1], [2]]
    rows, notes = compared(skim([three]), Asked(where="seed > 5"))
    assert rows == [] and notes == ["--where seed > 5: true of none of 3 runs"]
