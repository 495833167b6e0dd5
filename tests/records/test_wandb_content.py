"""What wandb is told of a run: who it belongs with, its figures, what its models were made from."""

import json
from pathlib import Path

import pytest

from gossamer.errors import ResumeError
from gossamer.records import metrics
from gossamer.records.loggers import figures
from gossamer.records.wandb_content import SEEDS, frozen, identity, layers, lineage, summary
from gossamer.records.wandb_sync import history
from tests.records import synthetic
from tests.records.examples import done, failed


def told(**changes) -> dict:
    return identity(frozen(done(**changes)))


def test_seeds_of_a_configuration_share_a_key_and_two_configurations_do_not() -> None:
    records = list(synthetic.runs(60))
    keys: dict[str, set[str]] = {}
    for record in records:
        config = identity(frozen(record))["config"]
        keys.setdefault(record["config_digest"], set()).add(config[SEEDS])
    assert len(keys) == 12 and all(len(found) == 1 for found in keys.values())
    assert len(set.union(*keys.values())) == 12


def test_the_group_is_the_sweep_and_of_a_single_run_its_seeds() -> None:
    single, swept = told(), told(sweep="first-sweep")
    assert single["group"] == single["config"][SEEDS] == "minilm-docstrings-dsee abcdef012345"
    assert swept["group"] == "first-sweep" and swept["config"][SEEDS] == single["config"][SEEDS]
    assert "sweep:first-sweep" in swept["tags"]
    assert not any(tag.startswith("sweep:") for tag in single["tags"])
    assert identity(frozen(done(sweep="first-sweep")), group="mine")["group"] == "mine"


def test_an_experiment_s_name_is_a_group_of_its_own() -> None:
    assert told(name="table-3")["group"] == "minilm-docstrings-dsee table-3 abcdef012345"


def test_the_id_is_the_record_s_and_the_job_says_whether_something_is_compressed() -> None:
    dense = told(choices__compression=[])
    assert told()["id"] == done()["id"]
    assert (told()["job_type"], dense["job_type"]) == ("compress", "train")
    assert "method:none" in dense["tags"] and "method:dsee" in told()["tags"]


def test_patterns_are_tags_and_no_tag_is_longer_than_wandb_allows() -> None:
    config = {"compression": {"magnitude": {"pattern": "2:4"}, "lora": {"rank": 8}}}
    assert "pattern:2:4" in told(config=config)["tags"]
    assert max(map(len, told(choices__model="m" * 100)["tags"])) == 64


def test_secrets_of_the_configuration_are_hidden() -> None:
    config = {"model": {"hub_token": "hf_secret"}, "seed": 1}
    shown = json.dumps(told(config=config, overrides=["model.hub_token=hf_typed"]))
    assert "<hidden>" in shown and "hf_secret" not in shown and "hf_typed" not in shown


def test_the_summary_has_every_ledger_under_its_own_name_and_nothing_else_there() -> None:
    found = summary(done())
    assert figures(done()).items() <= found.items()
    assert found["stages/1 dsee.train/accuracy"] == 0.75
    assert found["quality/primary"] == "accuracy" and found["status"] == "done"
    places = {name.partition("/")[0] for name in found.keys() - figures(done()).keys()}
    assert places == {"stages", "quality", "status", "error"}


def test_an_unfinished_run_says_why_and_has_no_layers_and_no_models(tmp_path: Path) -> None:
    record = failed("preempted")
    assert summary(record) == {"status": "preempted", "error": record["error"]}
    assert layers(record) == ([], []) and lineage(record, tmp_path, "export") == []


def test_the_layers_are_the_record_s() -> None:
    columns, rows = layers(done())
    assert dict(zip(columns, rows[0], strict=True))["shape"] == "[384, 384]"
    assert len(rows) == len(done()["layers"])


def dense(folder: Path, segments: tuple[int, ...], seed: int = 1) -> None:
    (folder / "export").mkdir(parents=True)
    (folder / "export" / "model.safetensors").write_bytes(b"dense")
    (folder / "weights.pt").write_bytes(b"weights")
    key = {"seed": str(seed), "segments": str(segments)}
    (folder / "fingerprint.json").write_text(json.dumps(key))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory, started from a trained base, with its twin and bases of other seeds."""
    directory, bases = tmp_path / "name" / "digest" / "seed1", tmp_path / "base"
    dense(bases / "aa", (150,), seed=2)
    dense(bases / "bb", (150,), seed=1)
    dense(bases / "cc", (150, 100, 50), seed=1)
    (directory / "export").mkdir(parents=True)
    (directory / "export" / "model.safetensors").write_bytes(b"sparse")
    return directory


RECORD = done(budget__twin_export="../../../base/cc/export")


def test_models_name_what_they_were_made_from_back_to_the_base(run: Path) -> None:
    base, twin, stage, model = lineage(RECORD, run, "export")
    assert (base.name, twin.name) == ("base-bb", "twin-cc"), "the base of this seed"
    assert base.used and twin.used and not stage.used and not model.used
    assert base.metadata["from"] is None
    assert stage.metadata["from"] == base.name and model.metadata["from"] == stage.name
    assert model.name == "model-abcdef012345-s1"
    assert stage.metadata["quality_after"] == {"accuracy": 0.75}


def test_only_the_exported_model_is_sent_and_what_it_came_from_is_named(run: Path) -> None:
    base, twin, stage, model = lineage(RECORD, run, "export")
    assert model.upload and set(model.files) == {"model.safetensors"}
    assert not base.upload and set(base.files) == {"weights.pt"}
    assert not twin.upload and set(twin.files) == {"model.safetensors"}
    assert not stage.files and json.loads(stage.texts["facts.json"])["steps"] == 150


def test_a_stage_s_weights_are_sent_if_asked_for_and_there(run: Path) -> None:
    weights = run / "state" / "stage-00.pt"
    assert not lineage(RECORD, run, "stages")[2].files
    weights.parent.mkdir()
    weights.write_bytes(b"stage")
    assert lineage(RECORD, run, "stages")[2].files == {"stage-00.pt": weights}
    assert not lineage(RECORD, run, "export")[2].files
    assert lineage(RECORD, run, "none") == []


def test_a_run_without_a_base_begins_with_its_first_stage(run: Path) -> None:
    record = done(budget__base=0, budget__twin_export="../../../base/cc/export")
    names = [artefact.name for artefact in lineage(record, run, "export")]
    assert names == ["twin-cc", "stage-abcdef012345-s1-1-dsee.train", "model-abcdef012345-s1"]


def write(directory: Path, *lines: str) -> Path:
    (directory / metrics.FILE).write_text("".join(f"{line}\n" for line in lines))
    return directory


def test_steps_are_those_of_metrics_jsonl_each_once_and_ascending(tmp_path: Path) -> None:
    write(
        tmp_path,
        '{"step": 10, "time": 1.5, "train/loss": 2.0}',
        '{"step": 20, "time": 2.5, "train/loss": 1.0}',
        '{"step": 20, "time": 3.5, "validation/accuracy": 0.5}',
    )
    rows = history(tmp_path)
    assert list(rows) == [10, 20]
    assert rows[20] == {"train/loss": 1.0, "validation/accuracy": 0.5, "_timestamp": 3.5}


def test_values_that_are_not_finite_are_numbers_again(tmp_path: Path) -> None:
    write(tmp_path, '{"step": 1, "time": 1.0, "a": "nan", "b": "inf", "c": "-inf"}')
    (row,) = history(tmp_path).values()
    assert row["a"] != row["a"] and (row["b"], row["c"]) == (float("inf"), float("-inf"))


def test_half_a_last_line_is_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, '{"step": 1, "time": 1.0, "a": 1}') / metrics.FILE
    file.write_text(file.read_text() + '{"step": 2, "ti')
    assert list(history(tmp_path)) == [1]
    write(tmp_path, '{"step": 1, "time": 1.0, "a": 1}', '{"step": 2', '{"step": 3, "time": 1.0}')
    with pytest.raises(ResumeError, match="line 2 is damaged"):
        history(tmp_path)
    assert history(tmp_path / "nowhere") == {}
