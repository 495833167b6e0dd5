"""A search as it is typed: the driver samples, jobs are one file each, and stopping saves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli import conftest as cli
from tests.records.examples import done

STANDIN = Path(__file__).parent / "standin"
SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler=grid", "seed=1,2,3")


def start(folder: Path, *words: str) -> subprocess.Popen:
    (folder / "record.json").write_text(json.dumps(done()))
    paths = [str(STANDIN), str(cli.HERE)]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "GOSSAMER_TEST_RECORD": str(folder / "record.json"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "gossamer.cli", *words, "--config-path", str(cli.TREE)],
        cwd=folder,
        env={**cli.environment(), **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_stopped_search_saves_and_goes_on_and_no_job_samples(tmp_path):
    search = start(tmp_path, *SEARCH)
    deadline = time.time() + 60
    while not list(tmp_path.rglob("waits")):
        assert time.time() < deadline and search.poll() is None, search.communicate()
        time.sleep(0.05)
    os.kill(search.pid, signal.SIGTERM)
    out, err = search.communicate(timeout=60)
    assert search.returncode == 3, err
    assert "preempted" in out and "1 to go on" in out

    again = start(tmp_path, *SEARCH, "hydra.sweeper.n_trials=3")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert len(list((tmp_path / "outputs" / "sweeps").iterdir())) == 1
    assert "the best trials (of 3 done)" in out
    commands = [line for line in out.splitlines() if line.startswith("trial ")][1:]
    assert commands[0] == f"trial 2: gossamer --config-path {cli.TREE} seed=3"
    noted = [json.loads(file.read_text()) for file in tmp_path.rglob("note.json")]
    assert len(noted) == 3
    for note in noted:
        assert len(note["argv"]) == 2 and note["argv"][1].endswith(".yaml")
        assert "optuna" not in note["loaded"] and "hydra" not in note["loaded"]


def test_help_refusals_and_status_do_not_load_optuna(tmp_path):
    for words, status in ((["--help"], 0), ([*SEARCH, "hydra.sweeper.n_trials=0"], 2)):
        command = [sys.executable, "-X", "importtime", "-m", "gossamer.cli", *words]
        ended = subprocess.run(
            command, cwd=tmp_path, env=cli.environment(), capture_output=True, text=True
        )
        assert ended.returncode == status
        names = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
        assert "gossamer.cli" in names and not names & {"optuna", "torch", "numpy"}
