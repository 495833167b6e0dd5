"""metrics.jsonl: always valid, and exact when a run goes on."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossamer.errors import ConfigError, Preempted, ResumeError, StageError
from gossamer.records import loggers
from gossamer.records.metrics import Metrics

CONFIG = {"logger": {"_target_": "gossamer.records.loggers.Null"}}


@pytest.fixture
def closed(monkeypatch) -> Iterator[list[int]]:
    codes: list[int] = []
    monkeypatch.setattr(loggers.Null, "close", lambda self, code: codes.append(code))
    yield codes


def lines(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def steps(directory: Path) -> list[int]:
    return [line["step"] for line in lines(directory)]


def test_each_call_is_one_line_with_step_and_time(tmp_path: Path) -> None:
    with Metrics(tmp_path, CONFIG) as metrics:
        metrics.log({"train/loss": 0.5, "lr": 1e-4}, 10)
        metrics.log({"validation/accuracy": 0.75}, 20)
        assert steps(tmp_path) == [10, 20], "lines are there at once, not when the run ends"
    first, second = lines(tmp_path)
    assert first.pop("time") > 1.7e9
    assert first == {"step": 10, "train/loss": 0.5, "lr": 1e-4}
    assert second["validation/accuracy"] == 0.75


def test_values_that_are_not_finite_are_text(tmp_path: Path) -> None:
    with Metrics(tmp_path, CONFIG) as metrics:
        metrics.log({"a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 3}, 1)
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda word: pytest.fail(f"invalid JSON: {word}"))
    assert [line[name] for name in "abcd"] == ["nan", "inf", "-inf", 3]


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    with Metrics(tmp_path, CONFIG) as metrics:
        for step in (10, 20, 30, 40):
            metrics.log({"loss": 1.0}, step)
    with Metrics(tmp_path, CONFIG) as metrics:
        metrics.rewind(20)
        metrics.log({"loss": 2.0}, 30)
    assert steps(tmp_path) == [10, 20, 30]
    assert lines(tmp_path)[-1]["loss"] == 2.0


@pytest.mark.parametrize("torn", ['{"step": 30, "ti', '{"step": 30, "time": 1, "loss": 2}', "{"])
def test_half_a_line_of_a_killed_run_is_dropped(tmp_path: Path, torn: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "time": 1}\n' + torn)
    with Metrics(tmp_path, CONFIG) as metrics:
        metrics.log({"loss": 1.0}, 20)
    assert steps(tmp_path) == [10, 20]


def test_damage_inside_the_file_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\nrubbish\n{"step": 20}\n')
    with (
        pytest.raises(ResumeError, match=r"metrics\.jsonl: line 2"),
        Metrics(tmp_path, CONFIG) as m,
    ):
        m.rewind(15)
    assert "rubbish" in path.read_text()


def test_a_metric_may_not_take_the_name_of_the_axis(tmp_path: Path) -> None:
    with Metrics(tmp_path, CONFIG) as metrics, pytest.raises(ValueError, match="step"):
        metrics.log({"step": 3}, 1)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    with Metrics(tmp_path, CONFIG) as metrics:
        metrics.file = Full()
        with pytest.raises(StageError, match="the disk is full"):
            metrics.log({"loss": 1.0}, 1)


def test_a_run_that_ends_well_closes_its_logger_with_0(tmp_path: Path, closed) -> None:
    with Metrics(tmp_path, CONFIG):
        pass
    assert closed == [0]


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("bug"), 1), (StageError("nan"), 1), (Preempted("stop"), 3)]
)
def test_an_exception_closes_the_logger_as_failed(tmp_path, closed, error, code) -> None:
    with pytest.raises(type(error)), Metrics(tmp_path, CONFIG):
        raise error
    assert closed == [code]


def test_a_logger_that_cannot_open_is_closed_again(tmp_path: Path, closed, monkeypatch) -> None:
    def refuse(self, directory, config) -> None:
        raise StageError("no network")

    monkeypatch.setattr(loggers.Null, "open", refuse)
    with pytest.raises(StageError, match="no network"), Metrics(tmp_path, CONFIG):
        pass
    assert closed == [1]


def test_trouble_on_closing_does_not_hide_the_runs_own_error(tmp_path, monkeypatch, capsys) -> None:
    def refuse(self, code: int) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(loggers.Null, "close", refuse)
    with pytest.raises(StageError, match="loss is nan"), Metrics(tmp_path, CONFIG):
        raise StageError("loss is nan")
    assert "no network" in capsys.readouterr().err


def test_an_unknown_logger_is_a_config_error_that_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"logger\._target_"):
        Metrics(tmp_path, {"logger": {"_target_": "gossamer.records.loggers.Nul"}})
