"""`trainer=ddp` and `trainer=fsdp` through the real command line, on two CPU processes."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.runs import commands
from tests.runs.commands import (
    DOCSTRINGS,
    figures,
    gossamer,
    metrics,
    one_line,
    record,
    run_directory,
    wait,
    weights_digest,
)

DSEE = ("trainer=ddp", "compression=dsee")


def children(process) -> list[int]:
    """The crew that a running command has started."""
    place = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in place.read_text().split()] if place.exists() else []


def leave(pids: list[int]) -> bool:
    """Are these processes gone within ten seconds?"""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


def stop_in_a_stage(number: int, *words: str, cwd: Path, then: Path) -> commands.Ended:
    """Send a signal once the file `then` is there; none of the crew may be left."""
    process = commands.start(*words, cwd=cwd)
    until = time.monotonic() + commands.PATIENCE
    crew: list[int] = []
    while process.poll() is None and time.monotonic() < until:
        crew = children(process) or crew
        if list(then.parent.glob(then.name)):
            break
        time.sleep(0.002)
    assert process.poll() is None, "it ended before it was stopped"
    os.kill(process.pid, number)
    ended = wait(process)
    assert crew and leave(crew)
    return ended


@pytest.mark.parametrize(
    "words", [DSEE, ("trainer=fsdp", "compression=magnitude")], ids=["ddp", "fsdp"]
)
def test_a_run_on_two_devices_is_done_once_and_leaves_no_process(words, finished):
    done = finished(*words)
    told = record(done.directory)
    assert told["status"] == "done" and all(check["passed"] for check in told["checks"])
    assert told["budget"]["pair_equal"] and told["config"]["trainer"]["devices"] == 2
    steps = [row["step"] for row in metrics(done.directory) if "train/loss" in row]
    assert steps == sorted(set(steps)) and len(steps) == told["budget"]["steps"]
    bases = (done.directory.parents[2] / "base").glob("*/fingerprint.json")
    assert bases  # of its own: devices and strategy are in the fingerprint
    assert not list(done.directory.parents[2].rglob("order-*"))


def test_stopped_and_killed_and_started_again_a_run_ends_the_same(finished, tmp_path):
    reference = finished(*DSEE).directory
    command = (*DOCSTRINGS, *DSEE)
    state = tmp_path / "outputs" / reference.relative_to(reference.parents[2]) / "state"

    ended = stop_in_a_stage(
        signal.SIGTERM, *command, cwd=tmp_path, then=state / "stage-01.checkpoint.pt"
    )
    assert ended.status == 3, ended.err
    assert "stopped by SIGTERM after step" in ended.err and "Traceback" not in ended.err
    assert record(state.parent)["status"] == "preempted"

    ended = stop_in_a_stage(
        signal.SIGKILL, *command, cwd=tmp_path, then=state / "stage-03.checkpoint.pt"
    )
    assert ended.status == -signal.SIGKILL

    ended = gossamer("resume", str(state.parent), cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert weights_digest(run_directory(tmp_path)) == weights_digest(reference)
    assert figures(run_directory(tmp_path)) == figures(reference)


def test_ranks_that_a_launcher_started_serve_the_first_one(finished, tmp_path):
    reference = finished(*DSEE).directory
    words = (*DOCSTRINGS, *DSEE)

    def launch() -> list[commands.Ended]:
        """What torchrun or srun does, on one machine."""
        port = str(20_000 + os.getpid() % 20_000)
        named = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        named["GLOO_SOCKET_IFNAME"] = "lo"
        ranks = []
        for rank in ("1", "0"):
            with pytest.MonkeyPatch.context() as patch:
                for key, value in {**named, "RANK": rank, "LOCAL_RANK": rank}.items():
                    patch.setenv(key, value)
                ranks.append(commands.start(*words, cwd=tmp_path))
        return [wait(process) for process in ranks]

    served, drove = launch()
    assert (served.status, drove.status) == (0, 0), served.err + drove.err
    assert served.out == "" and "record " in drove.out
    assert weights_digest(run_directory(tmp_path)) == weights_digest(reference)
    served, drove = launch()
    assert (served.status, drove.status) == (0, 0) and "already done" in drove.out


def test_what_cannot_be_shared_is_one_line_and_exit_status_2(tmp_path):
    gates = ("compression=dsee", "compression.dsee.heads=0.25", "compression.dsee.sparsity=0")
    ended = gossamer(
        *("plan", *DOCSTRINGS, "trainer=fsdp", *gates, "compression.dsee.structure_score=gates"),
        cwd=tmp_path,
    )
    assert ended.status == 2
    one_line(ended, "compression.dsee: structure_score=gates", "use trainer=ddp")


def test_a_sweep_is_not_started_by_several_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended = gossamer("-m", *DOCSTRINGS, "seed=1,2", cwd=tmp_path)
    assert ended.status == 2
    one_line(ended, "one process starts a sweep, not 2")
