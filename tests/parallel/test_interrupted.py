"""Runs on two processes that are cut, stopped, or lose a rank: nothing is lost, nothing hangs."""

import multiprocessing
import os
import time

import pytest
import torch

from gossamer import crew
from gossamer import journal as journals
from gossamer.errors import Preempted, StageError
from gossamer.interruption import interruption
from tests.contract.fakes import SYSTEMS, Recover, System
from tests.parallel import together
from tests.parallel.together import STRATEGIES, run, system

GENERATION = SYSTEMS["two-stage task with generation, with lora"]  # dropout, draws, EMA, a teacher


class Killed(BaseException):
    """Stands for SIGKILL of the driver: nothing of the engine handles it."""


@pytest.fixture(autouse=True)
def no_crew_is_left():
    yield
    crew.dismiss()


def kill_at_checkpoint(patch, number: int) -> None:
    real, count = journals.write_atomically, 0

    def counting(path, write):
        nonlocal count
        real(path, write)
        count += "checkpoint" in path.name
        if count == number:
            raise Killed

    patch.setattr(journals, "write_atomically", counting)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_and_resumed_the_weights_are_bit_identical(strategy, tmp_path, monkeypatch):
    made = {"devices": 2, "strategy": strategy}
    expected = run(system(GENERATION, **made), tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at_checkpoint(patch, 3)  # after two steps of the second stage, which has the EMA
        with pytest.raises(Killed):
            run(system(GENERATION, **made), tmp_path / "cut")
    (saved,) = (tmp_path / "cut" / "run").glob("*.checkpoint.pt")
    content = torch.load(saved, weights_only=True)
    assert content["step"] == 2 and content["average"]
    first, other = (states["torch"] for states in content["generators"])
    assert not torch.equal(first, other)  # each rank draws for its own rows
    resumed = run(system(GENERATION, **made), tmp_path / "cut")
    assert all(torch.equal(resumed[key], expected[key]) for key in expected)


def crew_processes() -> list[int]:
    return [member.pid for one in crew._standing for member in one.members.values()]


def fails_with(method, tmp_path, strategy="ddp", builder=together.fakes.Builder) -> str:
    began = time.monotonic()
    with pytest.raises(StageError) as raised:
        run(system(System(builder, methods=(method,)), devices=2, strategy=strategy), tmp_path)
    assert time.monotonic() - began < 120
    assert crew_processes() == [] and multiprocessing.active_children() == []
    line = str(raised.value)
    assert "\n" not in line
    return line


def test_an_error_on_one_rank_is_one_line_that_names_it(tmp_path, capfd):
    line = fails_with(together.Raises, tmp_path)
    assert "stage train: rank 1 of 2 failed: ValueError: no such thing; what was saved" in line
    assert "Traceback" in capfd.readouterr().err  # of a bug; on the rank that has it
    assert list((tmp_path / "run").glob("*.checkpoint.pt"))
    assert not list(tmp_path.rglob("order-*"))  # the pickle is gone


def test_a_rank_that_is_killed_is_one_line_that_names_it(tmp_path):
    assert "rank 1 of 2 failed: killed by SIGKILL" in fails_with(together.Dies, tmp_path)


def test_ranks_that_drift_apart_fail_the_stage(tmp_path):
    line = fails_with(together.Drifts, tmp_path)
    assert "blocks.1.noise differs between the ranks" in line and "trainer=default" in line


def test_rows_that_are_not_finite_on_one_rank_are_found_by_all(tmp_path):
    line = fails_with(together.Breaks, tmp_path, "fsdp")
    assert "blocks.0.weight is not finite" in line or "the loss is nan" in line


def test_a_loss_that_reads_sharded_weights_is_refused(tmp_path):
    line = fails_with(together.ReadsWeights, tmp_path, "fsdp", together.InBlocks)
    assert "the loss decay reads parameters that are sharded; use trainer=ddp" in line


def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path):
    told = system(System(methods=(together.IsTold,)), devices=2, checkpoint_every=0)
    with interruption, pytest.raises(Preempted, match="after step 3 of stage train"):
        run(told, tmp_path)
    interruption.requested = None
    (saved,) = (tmp_path / "run").glob("*.checkpoint.pt")
    assert torch.load(saved, weights_only=True)["step"] == 3


def test_a_model_that_cannot_travel_is_one_line(tmp_path):
    made = system(System(methods=(Recover,)), devices=2)
    made.task.secret = lambda: None
    with pytest.raises(StageError, match=r"cannot be sent to other processes: .*trainer=default"):
        run(made, tmp_path)


def test_only_the_users_own_file_is_unpickled(tmp_path):
    order = tmp_path / "order-1.pickle"
    torch.save({"weights": 1}, order)
    os.chmod(order, 0o664)
    with pytest.raises(StageError, match="not a file of the driver's"):
        crew._read(order)
    os.chmod(order, 0o600)
    assert crew._read(order) == {"weights": 1}


def test_a_process_of_the_crew_inherits_nothing_that_makes_it_a_job(monkeypatch):
    started = {}

    class Popen:
        def __init__(self, command, env, **_):
            started.update(env, command=command)

    foreign = {
        "SLURM_PROCID": "0",
        "WANDB_RUN_ID": "a",
        "GOSSAMER_SWEEP": "b",
        "HYDRA_FULL_ERROR": "1",
    }
    for key, value in foreign.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(crew.subprocess, "Popen", Popen)
    crew._start(1, 2, 4000)
    assert not foreign.keys() & started.keys()
    assert (started["RANK"], started["WORLD_SIZE"], started["MASTER_PORT"]) == ("1", "2", "4000")
    assert "-m" in started["command"] and "gossamer.crew" in started["command"]
