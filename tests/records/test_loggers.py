"""The loggers beside metrics.jsonl, each driven as a run drives it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.errors import ConfigError, StageError
from gossamer.records import wandb as ours
from gossamer.records.loggers import figures
from gossamer.records.metrics import Metrics
from gossamer.records.secrets import without_secrets
from tests.records.examples import HEAD, done

CHOICES = HEAD["choices"]


def config(target: str, **arguments) -> dict:
    return {
        "logger": {"_target_": f"gossamer.records.{target}", **arguments},
        "choices": {**CHOICES, "trainer": "default", "experiment": None},
        "digest": "abcdef012345",
        "seed": 1,
        "name": "minilm-docstrings-dsee",
        "overrides": ["model=minilm", "model.token=hf_typed"],
        "model": {"tokenizer": "wordpiece", "hub_token": "hf_secret"},
    }


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_a_column_for_a_metric_that_comes_later(tmp_path: Path) -> None:
    with Metrics(tmp_path, config("loggers.Csv")) as metrics:
        metrics.log({"train/loss": 0.5}, 10)
        metrics.log({"validation/accuracy": 0.75}, 20)
        metrics.log({"train/loss": 0.25}, 30)
        assert [row["step"] for row in rows(tmp_path)] == ["10", "20", "30"]
    assert [row["train/loss"] for row in rows(tmp_path)] == ["0.5", "", "0.25"]
    assert [row["validation/accuracy"] for row in rows(tmp_path)] == ["", "0.75", ""]


def test_csv_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    with Metrics(tmp_path, config("loggers.Csv")) as metrics:
        for step in (10, 20, 30):
            metrics.log({"a": step, "b": 2 * step}, step)
    with (tmp_path / "metrics.csv").open("a") as stream:
        stream.write("40,4")  # half a row of a killed run
    with Metrics(tmp_path, config("loggers.Csv")) as metrics:
        metrics.rewind(20)
        metrics.log({"a": 0.5, "b": 1.5}, 30)
    assert [(row["step"], row["a"], row["b"]) for row in rows(tmp_path)] == [
        ("10", "10", "20"),
        ("20", "20", "40"),
        ("30", "0.5", "1.5"),
    ]


def test_tensorboard_shows_the_resumed_steps_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Metrics(tmp_path, config("loggers.TensorBoard")) as metrics:
        for step in (10, 20, 30):
            metrics.log({"train/loss": 1.0}, step)
    with Metrics(tmp_path, config("loggers.TensorBoard")) as metrics:
        metrics.rewind(20)
        metrics.log({"train/loss": 2.0}, 30)
        metrics.finish(done(), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (10, 1.0),
        (20, 1.0),
        (30, 2.0),
    ]
    assert events.Scalars("quality/compressed/accuracy")[0].value == pytest.approx(0.78)


def test_figures_keep_the_ledgers_apart() -> None:
    found = figures(done())
    assert found["compute/macs_nonzero"] == 1_000_000
    assert found["compute/macs_effective"] == 1_500_000
    assert found["size/checkpoint_bytes"] == 360_000
    assert found["speed/batch 1/compressed/p50"] == 8.0
    assert found["speed/batch 1/dense/p50"] == 10.0
    assert found["checks/failed"] == 0
    assert not any("batch 32" in name for name in found), "it was skipped"


def test_figures_of_two_devices_do_not_overwrite_each_other() -> None:
    here = done()["speed"][0]
    found = figures(done(speed=[here, here | {"device": "a GPU"}]))
    assert {"speed/batch 1 on a processor/dense/p50", "speed/batch 1 on a GPU/dense/p50"} <= set(
        found
    )


def test_secrets_are_hidden_and_nothing_else() -> None:
    shown = without_secrets(
        {
            "model": {"hub_token": "a", "tokenizer": "b", "max_tokens": 3, "token": None},
            "logger": {"api_key": "c", "WANDB_API_KEY": "d", "db-password": "e"},
            "overrides": ["model.token=f", "+x.client_secret=g", "trainer.steps=5", "model=bert"],
            "author": "h",
        }
    )
    assert shown == {
        "model": {"hub_token": "<hidden>", "tokenizer": "b", "max_tokens": 3, "token": None},
        "logger": {
            "api_key": "<hidden>",
            "WANDB_API_KEY": "<hidden>",
            "db-password": "<hidden>",
        },
        "overrides": [
            "model.token=<hidden>",
            "+x.client_secret=<hidden>",
            "trainer.steps=5",
            "model=bert",
        ],
        "author": "h",
    }


OFFLINE = """
import json, sys
from pathlib import Path
from gossamer.records.metrics import Metrics
from tests.records.examples import done

directory, config = Path(sys.argv[1]), json.loads(sys.argv[2])
(directory / "export").mkdir()
(directory / "export" / "model.safetensors").write_bytes(bytes(1000))
(directory / "config.yaml").write_text("seed: 1\\n")
seen = {}
with Metrics(directory, config) as metrics:
    metrics.log({"train/loss": 1.0}, 10)
    metrics.log({"train/loss": 0.5}, 20)
    metrics.finish(done(), directory)
    run = metrics.logger.run
    seen = {
        "id": run.id, "group": run.group, "job_type": run.job_type, "tags": list(run.tags),
        "offline": run.offline, "summary": run.summary["quality/compressed/accuracy"],
    }
import wandb
seen["closed"] = wandb.run is None
try:
    with Metrics(directory, config) as metrics:
        seen["again"] = metrics.logger.run.id
        raise RuntimeError("bug")
except RuntimeError:
    seen["closed after a bug"] = wandb.run is None
print(json.dumps(seen))
"""


def test_wandb_without_a_key_is_offline_grouped_and_closed_in_every_path(tmp_path: Path) -> None:
    home, directory = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    directory.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment |= {"HOME": str(home), "NETRC": str(home / "netrc"), "PYTHONPATH": os.getcwd()}
    ran = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(directory), json.dumps(config("wandb.Wandb"))],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "id": "abcdef012345-s1",
        "group": "minilm-docstrings-dsee abcdef012345",
        "job_type": "compress",
        "tags": ["method:dsee", "model:minilm", "dataset:docstrings"],
        "offline": True,
        "summary": 0.78,
        "closed": True,
        "again": "abcdef012345-s1",
        "closed after a bug": True,
    }
    kept = b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())
    assert b"hf_secret" not in kept and b"hf_typed" not in kept
    assert b"encoder.layer.0.attention.self.query" in kept, "the per-layer table"
    assert f"gossamer sync-wandb {directory}" in ran.stderr


def test_wandb_refuses_to_log_into_another_active_run(tmp_path: Path, monkeypatch) -> None:
    import wandb

    class Other:
        id = "other"

    monkeypatch.setattr(wandb, "run", Other())
    with pytest.raises(StageError, match="other is still active"):
        ours.Wandb(mode="offline").open(tmp_path, config("wandb.Wandb"))


def test_wandb_online_without_a_key_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    import wandb

    monkeypatch.setattr(wandb, "login", lambda **asked: False)
    with pytest.raises(ConfigError, match=r"logger\.mode=online.*wandb login"):
        ours.Wandb(mode="online").open(tmp_path, config("wandb.Wandb"))


@pytest.mark.parametrize("name", ["none", "csv", "tensorboard", "wandb"])
def test_a_yaml_mirrors_the_constructor_and_its_defaults(name: str) -> None:
    import inspect

    import yaml

    from gossamer import targets

    path = Path(__file__).parents[2] / "conf" / "logger" / f"{name}.yaml"
    assert path.read_text().startswith("# ") and f"gossamer logger={name}" in path.read_text()
    node = yaml.safe_load(path.read_text())
    target = targets.locate(node.pop("_target_"))
    signature = inspect.signature(target)
    defaults = {p.name: p.default for p in signature.parameters.values()}
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in node.items()} == defaults
