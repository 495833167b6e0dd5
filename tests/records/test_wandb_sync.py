"""`gossamer sync-wandb`: once, also when it is called twice, cut, or the run went on meanwhile."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from gossamer.contract import Picture
from gossamer.errors import ResumeError, StageError
from gossamer.records import pictures
from gossamer.records.wandb_sync import MARK, STATE, Replay, There, replay, sync
from tests.records import synthetic
from tests.records.examples import failed
from tests.records.fake_wandb import Service, serving


@dataclass
class Remote:
    """A service in memory, which adds what it is sent; a `cut` send ends after ten steps."""

    address: str = "http://there"
    runs: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    marks: dict[tuple[str, str], str] = field(default_factory=dict)
    sends: int = 0
    cut: bool = False
    reachable: bool = True

    def there(self, project: str, entity: str | None, id: str) -> There:
        if not self.reachable:
            raise StageError("no network")
        steps = self.runs.get((project, id)) or [None]
        return There(self.marks.get((project, id)), steps[-1])

    def send(self, replay: Replay, rows: Mapping[int, Mapping[str, float]], mark: str) -> str:
        self.sends += 1
        place = replay.project, replay.id
        self.runs.setdefault(place, []).extend(list(rows)[: 10 if self.cut else None])
        if self.cut:
            raise StageError("cut")
        self.marks[place] = mark
        return replay.entity or "me"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path, 1)[0].parent


def made(run: Path, project: str | None = None, entity: str | None = None) -> Replay:
    return replay(run, json.loads((run / "record.json").read_text()), project, entity)


def test_a_run_is_sent_once(run: Path) -> None:
    remote = Remote()
    assert sync(made(run), remote) == f"sent 16 steps to me/gossamer/{made(run).id}"
    assert sync(made(run), remote) == "already there"
    assert remote.sends == 1
    noted = json.loads((run / STATE).read_text())
    assert noted["digest"] == made(run).digest() and noted["entity"] == "me"


def test_a_run_that_was_sent_from_another_copy_is_not_sent_again(run: Path) -> None:
    remote = Remote()
    sync(made(run), remote)
    (run / STATE).unlink()
    assert sync(made(run), remote) == "already there" and remote.sends == 1
    assert (run / STATE).exists()


STEPS = list(range(10, 170, 10))  # of the synthetic run


def test_a_send_that_was_cut_goes_on_where_it_ended(run: Path) -> None:
    remote = Remote(cut=True)
    with pytest.raises(StageError, match="cut"):
        sync(made(run), remote)
    assert not (run / STATE).exists()
    remote.cut = False
    assert sync(made(run), remote).startswith("sent 6 steps")
    assert sync(made(run), remote) == "already there"
    assert list(remote.runs.values()) == [STEPS]


def test_of_a_run_that_went_on_only_the_new_steps_are_sent(run: Path) -> None:
    remote = Remote()
    sync(made(run), remote)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 170, "time": 1.7e9, "train/loss": 0.1}\n')
    assert sync(made(run), remote).startswith("sent 1 steps")
    assert list(remote.runs.values()) == [[*STEPS, 170]]


def test_figures_that_changed_are_sent_without_a_step(run: Path) -> None:
    remote = Remote()
    sync(made(run), remote)
    record = json.loads((run / "record.json").read_text())
    record["size"]["state_bytes"] += 1
    (run / "record.json").write_text(json.dumps(record))
    assert sync(made(run), remote).startswith("sent 0 steps")
    assert list(remote.runs.values()) == [STEPS]


def test_another_history_under_the_same_id_is_not_added_to(run: Path) -> None:
    place = "gossamer", made(run).id
    remote = Remote(runs={place: [1, 2, 33]})
    with pytest.raises(StageError, match=r"step 33, which is none.*--project"):
        sync(made(run), remote)
    assert remote.runs[place] == [1, 2, 33] and remote.sends == 0


def test_a_run_that_is_gone_from_wandb_is_sent_again(run: Path) -> None:
    remote = Remote()
    sync(made(run), remote)
    remote.runs.clear()
    remote.marks.clear()
    assert sync(made(run), remote).startswith("sent 16 steps")


def test_another_project_is_another_place(run: Path) -> None:
    remote = Remote()
    sync(made(run), remote)
    sync(made(run, project="paper"), remote)
    assert sorted(project for project, _ in remote.runs) == ["gossamer", "paper"]


def test_what_is_noted_counts_where_wandb_cannot_be_asked_and_only_then(run: Path) -> None:
    remote = Remote()
    sync(made(run), remote)
    remote.reachable = False
    assert sync(made(run), remote).startswith("sent earlier") and remote.sends == 1
    with pytest.raises(StageError, match="no network"):
        sync(made(run, project="paper"), remote)
    assert remote.sends == 1


def test_a_run_s_own_logger_says_where_it_goes(run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    record["config"]["logger"] = {
        "_target_": "gossamer.records.wandb.Wandb",
        "project": "paper",
        "entity": "team",
        "group": "g",
        "tags": ["mine"],
        "artifact": "none",
    }
    found = replay(run, record, None, None)
    assert (found.project, found.entity, found.identity["group"]) == ("paper", "team", "g")
    assert "mine" in found.identity["tags"] and found.artefacts == []
    assert replay(run, record, "other", "me").project == "other"


def gossamer(service: Service | None, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment |= {"HOME": str(home), "NETRC": str(home / "netrc")}
    if service:
        environment |= {"WANDB_BASE_URL": service.address, "WANDB_API_KEY": "k" * 40}
        environment |= {"WANDB_ERROR_REPORTING": "false"}
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gossamer.cli", "sync-wandb", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def imported(ended: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}


def test_without_a_key_one_line_says_what_to_type(run: Path, tmp_path: Path) -> None:
    ended = gossamer(None, tmp_path, str(run))
    lines = [line for line in ended.stderr.splitlines() if "import time:" not in line]
    assert ended.returncode == 2 and ended.stdout == ""
    assert len(lines) == 1 and "wandb login" in lines[0], lines


def test_a_dry_run_says_what_would_be_sent_and_needs_no_key(run: Path, tmp_path: Path) -> None:
    ended = gossamer(None, tmp_path, "--dry-run", str(tmp_path), "--project", "paper")
    assert ended.returncode == 0
    assert "would send to paper/" in ended.stdout and "group synthetic: 16 steps" in ended.stdout
    assert not (run / STATE).exists()
    assert not imported(ended) & {"torch", "wandb"} and "gossamer.cli" in imported(ended)


@pytest.mark.parametrize("kind", [OSError, ValueError, "wandb"])
def test_what_wandb_refuses_while_it_is_sent_is_a_line(run: Path, monkeypatch, kind) -> None:
    from wandb.errors import CommError

    from gossamer.records import wandb_service

    def refuse(*args, **options):
        raise (CommError if kind == "wandb" else kind)("no space\nleft")

    monkeypatch.setattr(wandb_service, "begin", refuse)
    service = object.__new__(wandb_service.Service)
    with pytest.raises(StageError, match=r"wandb: no space; the same command goes on"):
        service.send(made(run), {}, "mark")


def test_a_place_without_a_record_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = gossamer(None, tmp_path, str(tmp_path / "empty"))
    assert ended.returncode == 1 and "no run's record.json" in ended.stdout
    assert gossamer(None, tmp_path, str(tmp_path / "absent")).returncode == 2


@dataclass
class Sent:
    """Two runs that were sent through wandb's own client, twice, to a service on this machine."""

    service: Service
    finished: Path
    preempted: Path
    ended: list[subprocess.CompletedProcess[str]]
    lines: list[int]  # of history that the service had received after each call

    @property
    def id(self) -> str:
        return json.loads((self.finished / "record.json").read_text())["id"]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    root = tmp_path_factory.mktemp("outputs")
    finished = synthetic.write(root, 15)[12].parent  # of a method, so it has layers
    for other in root.rglob("record.json"):
        if other.parent != finished:
            other.unlink()
    (finished / "export" / "model.safetensors").write_bytes(b"sparse")
    seen = Picture("keys", "what is seen", torch.full((20, 30, 3), 9, dtype=torch.uint8))
    pictures.write(finished, [("a_method", seen)])
    twin = finished / json.loads((finished / "record.json").read_text())["budget"]["twin_export"]
    twin.mkdir(parents=True)
    (twin / "model.safetensors").write_bytes(b"dense")
    with (finished / "metrics.jsonl").open("a") as file:
        file.write('{"step": 170, "time": 1.7e9, "train/loss": "nan"}\n')
    preempted = root / "cut" / "digest" / "seed9"
    preempted.mkdir(parents=True)
    record = failed("preempted", seed=9, id="abcdef012345-s9", sweep="swept")
    (preempted / "record.json").write_text(json.dumps(record))
    (preempted / "metrics.jsonl").write_text('{"step": 3, "time": 1.7e9, "train/loss": 1.0}\n')
    with serving() as service:
        ended, lines = [], []
        for _ in range(2):
            ended.append(gossamer(service, root, str(root)))
            lines.append(service.lines)
        yield Sent(service, finished, preempted, ended, lines)


def test_the_second_call_sends_nothing(sent: Sent) -> None:
    first, second = sent.ended
    assert first.returncode == second.returncode == 0, first.stderr[-2000:]
    assert first.stdout.count("sent ") == 2 and second.stdout.count("already there: ") == 2
    assert sent.lines[0] == sent.lines[1] > 0 and sent.service.gaps == []
    assert len(sent.service.runs) == 2
    names = [artefact["name"] for artefact in sent.service.artefacts.values()]
    assert len(names) == len(set(names))


def test_wandb_has_the_steps_of_metrics_jsonl(sent: Sent) -> None:
    rows = sent.service.history("gossamer", sent.id)
    lines = [json.loads(x) for x in (sent.finished / "metrics.jsonl").read_text().splitlines()]
    steps = [row["_step"] for row in rows]
    assert steps == sorted({line["step"] for line in lines})
    losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert {row["_step"]: str(row["train/loss"]) for row in rows} == {
        step: str(loss) for step, loss in losses.items()
    }
    assert rows[-2]["_timestamp"] == 1.7e9 + 160


def test_wandb_has_group_tags_key_figures_and_layers(sent: Sent) -> None:
    run, record = sent.service.run("gossamer", sent.id), made(sent.finished).record
    assert run["groupName"] == "synthetic" and run["jobType"] == "compress"
    assert {"sweep:synthetic", "model:minilm"} <= set(run["tags"])
    assert record["config_digest"] in sent.service.config("gossamer", sent.id)["seeds_of"]
    summary = sent.service.summary("gossamer", sent.id)
    assert summary["size/checkpoint_bytes"] == record["size"]["checkpoint_bytes"]
    assert summary[MARK] == made(sent.finished).digest()
    assert summary["layers"]["nrows"] == len(record["layers"]) > 0
    assert run["exitcode"] == 0


def test_wandb_has_the_pictures_with_their_captions(sent: Sent) -> None:
    found = sent.service.summary("gossamer", sent.id)["pictures"]
    assert found["_type"] == "images/separated" and found["count"] == 1
    assert found["captions"] == ["a_method: what is seen"]
    name = Path(found["filenames"][0]).name
    assert sent.service.files[name] == (sent.finished / "pictures/a_method-keys.png").read_bytes()


def test_another_picture_is_another_content_and_a_missing_one_is_named(run: Path) -> None:
    plain = made(run).digest()
    for value in (1, 2):
        seen = Picture("keys", "what is seen", torch.full((20, 30, 3), value, dtype=torch.uint8))
        pictures.write(run, [("a_method", seen)])
        digest = made(run).digest()
        assert digest != plain
        plain = digest
    (run / "pictures" / "a_method-keys.png").unlink()
    with pytest.raises(ResumeError, match=r"a_method-keys\.png: not there any more"):
        made(run)


def test_models_are_inputs_and_results_and_only_the_export_is_uploaded(sent: Sent) -> None:
    found = {a["name"]: a for a in sent.service.artefacts.values() if "layers" not in a["name"]}
    model = found[f"model-{sent.id}"]
    assert "model.safetensors" in model["uploaded"]
    assert model["metadata"]["from"] in found
    (twin,) = [a for name, a in found.items() if name.startswith("twin-")]
    assert twin["uploaded"] == ["facts.json"], "its weights are named, not sent"
    used = [sent.service.artefacts[id]["name"] for run, id in sent.service.used if run == sent.id]
    assert used == [twin["name"]]


def test_a_preempted_run_is_marked_as_one(sent: Sent) -> None:
    run = sent.service.run("gossamer", "abcdef012345-s9")
    assert run["exitcode"] == 3 and run["preempting"] and "status:preempted" in run["tags"]
    assert sent.service.summary("gossamer", "abcdef012345-s9")["error"]


def test_a_service_that_answers_with_errors_is_one_line(sent: Sent, run: Path) -> None:
    sent.service.broken = True
    try:
        ended = gossamer(sent.service, run, str(run))
    finally:
        sent.service.broken = False
    assert ended.returncode == 1
    assert ended.stdout.count("\n") == 1 and ended.stdout.startswith("not sent: ")
    assert not (run / STATE).exists()


def test_torch_is_not_imported_to_send(sent: Sent) -> None:
    assert "wandb" in imported(sent.ended[0])
    assert not imported(sent.ended[0]) & {"torch", "pytorch_lightning", "transformers"}


def test_wandb_is_told_what_went_on_since_and_no_step_twice(sent: Sent) -> None:
    with (sent.preempted / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "time": 1.7e9, "train/loss": 0.5}\n')
    ended = gossamer(sent.service, sent.preempted, str(sent.preempted))
    assert ended.returncode == 0 and ended.stdout.startswith("sent 1 steps"), ended.stdout
    steps = [row["_step"] for row in sent.service.history("gossamer", "abcdef012345-s9")]
    assert steps == [3, 5]
