"""Runs that are killed, stopped or damaged, and started again: nothing is lost, nothing differs."""

import os
import random
import shutil
import signal

import pytest
import torch

from tests.runs.commands import (
    figures,
    gossamer,
    killed_when,
    logged,
    one_line,
    record,
    run_directory,
    stop_when,
    weights_digest,
)

METHODS = {
    "dsee": ("compression=dsee",),
    "lora, then magnitude": ("compression=[lora,magnitude]",),
    "magnitude": ("compression=magnitude",),
}
LIVES = {"magnitude": (0, 1), "lora, then magnitude": (2, 6), "dsee": (7, 10)}  # logged lines


def moments() -> list[tuple[str, int, float]]:
    """Random moments early (the dense base included), in the middle and late in a run's life: after
    so many logged lines of the ten that a run logs, and so many seconds more."""
    draw = random.Random("moments")
    return [(name, draw.randint(*lines), draw.uniform(0, 0.15)) for name, lines in LIVES.items()]


@pytest.fixture
def reference(words, shared, tmp_path_factory):
    """name -> the directory of the run that nobody disturbed."""
    from filelock import FileLock

    def make(name: str):
        folder = shared / f"undisturbed {name}"
        with FileLock(shared / f"undisturbed {name}.lock"):
            if not folder.exists():
                work = tmp_path_factory.mktemp("reference")
                ended = gossamer(*words, *METHODS[name], cwd=work)
                assert ended.status == 0, ended.err
                work.rename(folder)
        return run_directory(folder)

    return make


def equal(directory, expected) -> None:
    assert weights_digest(directory) == weights_digest(expected)
    assert figures(directory) == figures(expected)


@pytest.mark.parametrize(("name", "lines", "delay"), moments())
def test_killed_at_a_random_moment_and_started_again_a_run_ends_the_same(
    name, lines, delay, words, reference, tmp_path
):
    command = (*words, *METHODS[name])
    outputs = tmp_path / "outputs"

    def come_so_far() -> bool:
        begun = any(outputs.glob("base/*/fingerprint.json"))
        return begun if lines == 0 else logged(tmp_path) >= lines

    ended = killed_when(come_so_far, *command, cwd=tmp_path, delay=delay)
    assert ended.status == -signal.SIGKILL, "it ended before it was killed"
    ended = gossamer(*command, cwd=tmp_path)
    assert ended.status == 0, ended.err
    equal(run_directory(tmp_path), reference(name))


def test_told_to_stop_a_run_saves_its_state_and_can_be_resumed(reference, tmp_path, words):
    command = (*words, *METHODS["dsee"])
    first = tmp_path / "first"
    first.mkdir()

    def begun() -> bool:
        return any((first / "outputs").glob("*/*/seed*/state/fingerprint.json"))

    ended = stop_when(begun, *command, cwd=first, number=signal.SIGTERM)
    assert ended.status == 3, ended.err
    assert "Traceback" not in ended.err
    directory = run_directory(first)
    assert f"gossamer resume {directory.relative_to(first)}" in ended.err
    told = record(directory)
    assert told["status"] == "preempted" and "SIGTERM" in told["error"]
    assert list((directory / "state").glob("*.pt"))
    damaged = tmp_path / "damaged"  # a copy of everything, one of whose checkpoints is cut
    shutil.copytree(first, damaged)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ended = gossamer("resume", str(directory), cwd=elsewhere)
    assert ended.status == 0, ended.err
    equal(directory, reference("dsee"))
    assert list(elsewhere.iterdir()) == []  # no second base, trained beside the first

    (state,) = (damaged / "outputs").glob("*/*/seed*/state")
    newest = max(state.glob("*.pt"), key=os.path.getmtime)
    newest.write_bytes(newest.read_bytes()[:-1000])
    ended = gossamer(*command, cwd=damaged)
    assert ended.status == 1
    one_line(ended, newest.name, "damaged", "delete it")
    newest.unlink()  # as the line says
    ended = gossamer(*command, cwd=damaged)
    assert ended.status == 0, ended.err
    equal(run_directory(damaged), reference("dsee"))


def test_told_to_stop_in_the_dense_base_the_same_command_goes_on(words, reference, tmp_path):
    command = (*words, *METHODS["magnitude"])

    def begun() -> bool:
        return any((tmp_path / "outputs").glob("base/*/fingerprint.json"))

    ended = stop_when(begun, *command, cwd=tmp_path, number=signal.SIGTERM)
    assert ended.status == 3, ended.err
    ended = gossamer(*command, cwd=tmp_path)
    assert ended.status == 0, ended.err
    equal(run_directory(tmp_path), reference("magnitude"))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    words, tmp_path
):
    command = (
        *words,
        "compression=magnitude",
        "compression.magnitude.lr=1e30",
        "trainer.checkpoint_every=1",
    )
    ended = gossamer(*command, cwd=tmp_path)
    assert ended.status == 1
    line = one_line(ended, "stage train", "loss is nan", "at step", "trainer.lr")
    directory = run_directory(tmp_path)
    told = record(directory)
    assert told["status"] == "failed" and told["error"] in line
    (checkpoint,) = (directory / "state").glob("*.checkpoint.pt")
    assert str(checkpoint.relative_to(tmp_path)) in line
    saved = torch.load(checkpoint, weights_only=True)
    assert all(bool(torch.isfinite(t).all()) for t in saved["model"].values())
    assert f"at step {saved['step'] + 1} of" in line
    assert list((tmp_path / "outputs").glob("base/*/weights.pt"))  # the base is not lost


def test_a_damaged_record_is_one_line_and_deleting_it_repeats_the_run(words, reference, tmp_path):
    shutil.copytree(reference("magnitude").parents[2], tmp_path / "outputs")
    directory = run_directory(tmp_path)
    path = directory / "record.json"
    path.write_text(path.read_text()[:-200])
    command = (*words, *METHODS["magnitude"])
    ended = gossamer(*command, cwd=tmp_path)
    assert ended.status == 1
    one_line(ended, "record.json", "damaged", "delete it")
    path.unlink()
    ended = gossamer(*command, cwd=tmp_path)
    assert ended.status == 0, ended.err
    equal(directory, reference("magnitude"))


def limit_files(size: int):
    """What a full disk is to a process: no file may grow beyond `size` bytes."""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [1_000, 150_000, 600_000])
def test_a_full_disk_is_one_line_and_loses_nothing(size, words, reference, tmp_path):
    expected = reference("magnitude")
    shutil.copytree(expected.parents[2] / "base", tmp_path / "outputs" / "base")
    before = sorted(tmp_path.glob("outputs/base/*/weights.pt"))
    assert before
    command = (*words, *METHODS["magnitude"])
    ended = gossamer(*command, cwd=tmp_path, preexec=limit_files(size))
    assert ended.status == 1
    one_line(ended, "could not be written", "make room")
    assert sorted(tmp_path.glob("outputs/base/*/weights.pt")) == before
    if size == 600_000:  # what was saved is intact: it goes on from there
        ended = gossamer(*command, cwd=tmp_path)
        assert ended.status == 0, ended.err
        equal(run_directory(tmp_path), expected)
