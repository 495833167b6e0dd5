"""The command as Hydra users know it, the sweep, the subcommands, and what each costs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import TREE, environment

LIMIT = 0.7  # CPU seconds


def notes(folder: Path) -> list[dict]:
    """What the runs noted (standin/), in no order."""
    return [json.loads(file.read_text()) for file in folder.rglob("note.json")]


def test_a_run_gets_the_resolved_config_in_this_process(gossamer, tmp_path):
    ended = gossamer("seed=3", "compression=[adapt,prune]", "trainer.lr=1e-3")
    assert (ended.status, ended.err) == (0, "")
    (note,) = notes(tmp_path)
    assert note["config"]["seed"] == 3 and note["config"]["trainer"]["lr"] == 1e-3
    assert (tmp_path / note["config"]["directory"]).is_dir()
    left = sorted(path.name for path in (tmp_path / "outputs").iterdir())
    assert left == ["minilm-docstrings-adapt+prune"]  # no folder by the second, no .hydra


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_the_exit_status_is_the_runs(gossamer, status):
    assert gossamer(f"task.metric='{status}'").status == status


def test_a_bug_keeps_its_traceback(gossamer):
    ended = gossamer("task.metric=bug")
    assert ended.status == 1
    assert "Traceback" in ended.err and "a bug, not a user's mistake" in ended.err


def test_flags_and_overrides_may_come_in_any_order(gossamer):
    ended = gossamer("trainer.steps=2", "--cfg", "job", "seed=1", "-p", "trainer.steps")
    assert (ended.status, ended.out) == (0, "2\n")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--cfg", "job"], "schedule: linear"),
        (["--cfg", "hydra"], "job_logging"),
        (["--info", "defaults-tree"], "dataset: docstrings"),
        (["--info", "searchpath"], str(TREE)),
        (["--hydra-help"], "--multirun"),
        (["--version"], "gossamer 0."),
        (["-sc", "install=bash"], "complete"),
        (["--help"], "gossamer resume RUN"),
        (["plan", "--help"], "before a weight is allocated"),
        (["list", "--help"], "GROUP"),
        (["resume", "--help"], "RUN"),
        (["bench", "--help"], "--batch"),
        (["compare", "--help"], "PATH"),
        (["scaling-law", "--help"], "--mix-twins"),
    ],
)
def test_what_only_prints_prints_and_leaves_nothing(gossamer, tmp_path, argv, word):
    ended = gossamer(*argv, tree=None if argv[-1] == "--help" or "--version" in argv else TREE)
    assert ended.status == 0 and word in ended.out
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_completion_offers_groups_choices_and_keys(tmp_path):
    def complete(text: str) -> list[str]:
        env = {**environment(), "COMP_LINE": f"gossamer {text}", "COMP_POINT": str(9 + len(text))}
        command = [sys.executable, "-m", "gossamer.cli", "-sc", "query=bash"]
        ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        return ran.stdout.split()

    assert {"model=bert", "model=minilm", "model=bert_tiny"} <= set(complete("model="))
    assert "trainer.steps=" in complete("trainer.st")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--cfg", "job", "-m"], "one of them at a time"),
        (["--resolve"], "only with --cfg"),
        (["--experimental-rerun", "x"], "resume"),
        (["-cn", "nope"], "--config-name=nope"),
        (["-cd", "nope"], "--config-dir"),
        (["--info", "nope"], "--info"),
        (["--nope"], "--nope"),
        (["--help", "modle=x"], "modle=x"),
        (["--cfg", "job", "seed=1,2"], "seed=1,2"),
        (["hydra/job_logging=default", "hydra.job_logging.root.level=NO"], "hydra: "),
        (["list", "modles"], "did you mean models?"),
        (["resume"], "RUN"),
        (["resume", "nope"], "RUN=nope"),
        (["resume", "."], "no config.yaml"),
        (["bench", ".", "--batch", "0"], "--batch"),
        (["bench", ".", "--batch", "a"], "--batch"),
        (["bench", ".", "--device", "cpuu"], "--device: cpuu"),
        (["compare"], "PATH"),
        (["compare", "nope"], "PATH=nope"),
        (["compare", ".", "--format", "xls"], "--format"),
        (["compare", ".", "--pareto", "quality"], "--pareto"),
        (["compare", ".", "--across-models"], "--across-models"),
        (["plan", "trainer.stepz=1"], "trainer.stepz=1"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_says_what_is_wrong(gossamer, argv, word):
    ended = gossamer(*argv, tree=None if argv[0] in ("resume", "bench", "compare") else TREE)
    assert ended.status == 2 and word in ended.err
    assert "Traceback" not in ended.err


def test_list_says_what_each_choice_is_and_goes_with(gossamer):
    ended = gossamer("list")
    assert ended.status == 0
    for words in (
        ["models (model=…)", "tiny", "Two random layers.", "takes text"],
        ["glue/mrpc", "Pairs of sentences.", "is text", "task=classification"],
        ["table1", "Both methods.", "compression=[adapt,prune]"],
    ):
        assert any(all(word in line for word in words[1:]) for line in ended.out.splitlines())
        assert words[0] in ended.out
    only = gossamer("list", "tasks").out
    assert "regression" in only and "minilm" not in only


@pytest.mark.parametrize(
    ("argv", "status"),
    [(["--help"], 0), (["list"], 0), (["compare", "."], 1), (["trainer.stepz=3"], 2)],
)
def test_help_list_compare_and_errors_are_cheap_and_import_no_torch(gossamer, argv, status):
    gossamer(*argv, tree=None)  # bytecode is there from the second time on
    ended = min((gossamer(*argv, tree=None) for _ in range(3)), key=lambda each: each.cpu)
    assert ended.status == status
    assert ended.cpu < LIMIT
    imported = gossamer(*argv, tree=None, flags=("-X", "importtime")).err
    names = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert "gossamer.cli" in names
    heavy = {"torch", "transformers", "datasets", "pytorch_lightning", "numpy"}
    assert names & heavy == set()


def test_a_sweep_runs_each_job_in_its_own_process_and_goes_on_after_a_failure(gossamer, tmp_path):
    ended = gossamer("-m", "seed=1,2", "task.metric='0','1',kill,bug,null")
    assert ended.status == 1
    table = [line.split() for line in ended.out.splitlines() if line.startswith("#")]
    states = [row[1] for row in table]
    assert states == ["done", "failed", "killed", "failed", "done"] * 2
    found = notes(tmp_path)
    assert len(found) == 10 and len({note["pid"] for note in found}) == 10
    assert not any("-m" in note["argv"] or "--multirun" in note["argv"] for note in found)


def test_a_sweep_of_jobs_that_all_end_well_ends_well(gossamer, tmp_path):
    ended = gossamer("-m", "compression=none,prune,[adapt,prune]", "trainer.steps=range(1,3)")
    assert ended.status == 0
    methods = sorted("+".join(note["config"]["compression"]) for note in notes(tmp_path))
    assert methods == ["", "", "adapt+prune", "adapt+prune", "prune", "prune"]
    assert gossamer("-m", "task.metric='0','3'").status == 3
    assert gossamer("-m", "task.metric='3','1'").status == 1


def test_no_job_of_a_sweep_starts_if_one_is_misconfigured(gossamer, tmp_path):
    ended = gossamer("-m", "seed=1,2,x")
    assert ended.status == 2 and "seed=x" in ended.err
    assert notes(tmp_path) == [] and not (tmp_path / "outputs").exists()


def test_a_key_that_only_the_swept_choices_have_can_be_set(gossamer, tmp_path):
    ended = gossamer("-m", "compression=adapt,[adapt,prune]", "compression.adapt.rank=3")
    assert ended.status == 0, ended.err
    ranks = [note["config"]["compression"]["adapt"]["rank"] for note in notes(tmp_path)]
    assert ranks == [3, 3]


def test_lazy_values_are_resolved_once_at_submission(gossamer, tmp_path):
    ended = gossamer("-m", "seed=1,2", "model.name=at-${now:%H%M%S%f}")
    assert ended.status == 0
    files = list((tmp_path / "outputs" / "sweeps").rglob("jobs/*.yaml"))
    assert len(files) == 2 and "${" not in "".join(file.read_text() for file in files)
    for note in notes(tmp_path):
        assert note["config"]["model"]["name"].startswith("at-")
        assert note["config"]["directory"].endswith(
            f"{note['config']['digest']}/seed{note['config']['seed']}"
        )


def test_the_same_sweep_lands_in_the_same_folder(gossamer, tmp_path):
    for _ in range(2):
        assert gossamer("-m", "seed=1,2").status == 0
    assert len(list((tmp_path / "outputs" / "sweeps").iterdir())) == 1
    assert gossamer("-m", "seed=1,2", "hydra.sweep.dir=mine").status == 0
    assert (tmp_path / "mine" / "jobs").is_dir()


def test_a_sweep_can_be_asked_for_by_hydras_mode(gossamer, tmp_path):
    assert gossamer("hydra.mode=MULTIRUN", "seed=1,2").status == 0
    assert len(notes(tmp_path)) == 2


def test_a_sweep_that_is_told_to_stop_lets_its_job_save_and_stops(tmp_path):
    command = [sys.executable, "-m", "gossamer.cli", "-m", "--config-path", str(TREE)]
    sweep = subprocess.Popen(
        [*command, "task.metric=wait", "seed=1,2"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.time() + 60
    while not notes_or_nothing(tmp_path):
        assert time.time() < deadline and sweep.poll() is None
        time.sleep(0.05)
    os.kill(sweep.pid, signal.SIGTERM)
    out, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 3
    rows = [line.split("  ") for line in out.splitlines() if line.startswith("#")]
    assert [row[1].strip() for row in rows] == ["preempted", "not started"]
    assert len(notes(tmp_path)) == 1


def notes_or_nothing(folder: Path) -> list[dict]:
    try:
        return notes(folder)
    except ValueError:  # being written
        return []


def test_a_job_is_one_file_and_one_process(tmp_path):
    command = [sys.executable, "-m", "gossamer.cli.job"]
    ran = subprocess.run(
        [*command, "absent.yaml"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert ran.returncode == 2 and ran.stderr.startswith("absent.yaml: cannot be read")
    ran = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert ran.returncode == 2 and "usage" in ran.stderr
