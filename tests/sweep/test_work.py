"""One job: its process, how it ends, and how it is told to stop."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gossamer.sweep.following import alive
from gossamer.sweep.jobs import State
from gossamer.sweep.work import work
from tests.sweep.conftest import note

PATIENCE = 60  # seconds


@pytest.mark.parametrize(
    ("end", "name", "error"),
    [
        (None, "done", ""),
        ("1", "failed", "as told"),
        ("memory", "out of memory", "out of memory: as told"),
        ("2", "misconfigured", ""),
        ("3", "preempted", ""),
        ("kill", "killed", "SIGKILL"),
        ("bug", "failed", "RuntimeError: a bug, not a user's mistake"),
    ],
)
def test_a_job_ends_in_a_state_with_the_line_that_says_why(job, end, name, error):
    one = job(end)
    state = work(one)
    assert (state.name, state.error) == (name, error)
    assert one.state() == state and state.attempts == 1 and state.seconds > 0


def test_the_log_has_what_the_process_printed_with_the_traceback(job):
    one = job("bug")
    work(one)
    assert "Traceback" in one.path("log").read_text()
    work(one)
    assert one.path("log").read_text().count("Traceback") == 2  # a second attempt adds to it
    assert one.state().attempts == 2


def test_every_job_is_a_process_of_its_own_with_the_given_variables(job):
    first, second = job(key="a"), job(key="b")
    for one in (first, second):
        work(one, {"GOSSAMER_NEIGHBOURS": "3"})
    pids = {note(first)["pid"], note(second)["pid"], os.getpid()}
    assert len(pids) == 3
    assert note(first)["environment"]["GOSSAMER_NEIGHBOURS"] == "3"
    assert not any("-m" in note(one)["argv"] for one in (first, second))


def begun(one, state="running") -> None:
    deadline = time.monotonic() + PATIENCE
    while not (one.run / "note.json").exists() or one.state().name != state:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stop_file_makes_a_job_save_and_end_as_preempted_and_the_next_attempt_goes_on(job):
    one = job("wait")
    thread = threading.Thread(target=work, args=(one,))
    thread.start()
    begun(one)
    one.stop()
    thread.join(PATIENCE)
    assert one.state().name == "preempted"
    assert not one.path("stop").exists()  # it would stop the next attempt as well
    assert work(one).name == "done"


def working(one) -> subprocess.Popen:
    """A process that works on the job; at its end it prints the state and the signals it heard."""
    code = (
        "import sys; from gossamer.sweep.jobs import Job; from gossamer.sweep.work import work;"
        "folder, key, directory, cwd = sys.argv[1:];"
        "heard = []; state = work(Job(folder, key, (), directory, cwd), heard=heard);"
        "print(state.name, *map(int, heard))"
    )
    command = [sys.executable, "-c", code, one.folder, one.key, one.directory, one.cwd]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_are_passed_on_and_heard(job, number):
    one = job("wait")
    process = working(one)
    begun(one)
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    assert out.split() == ["preempted", str(int(number))]


def test_a_job_stops_when_the_process_that_started_it_is_killed(job):
    one = job("wait")
    process = working(one)
    begun(one)
    pid = note(one)["pid"]
    process.kill()
    process.wait()
    deadline = time.monotonic() + PATIENCE
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert one.recorded()["status"] == "preempted"
    assert (
        one.state().name == "running"
    )  # nobody could note its end; `sweep status` sees through it


def test_a_state_that_is_damaged_is_said(job):
    from gossamer.errors import ResumeError

    one = job()
    assert one.state() == State("not started")
    one.path("json").write_text("{")
    with pytest.raises(ResumeError, match="damaged; delete it"):
        one.state()


def test_what_an_attempt_saved_is_not_rerun_by_the_next(job):
    one = job("wait", rerun=True)
    process = working(one)
    begun(one)
    assert note(one)["config"]["rerun"] is True
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    work(one)
    assert note(one)["config"]["rerun"] is False and one.state().attempts == 2


def test_an_earlier_attempts_record_does_not_say_how_this_one_ended(job):
    one = job("bug")
    one.run.mkdir(parents=True)
    record = one.run / "record.json"
    record.write_text('{"status": "failed", "error": "out of memory: an earlier attempt"}')
    os.utime(record, (0, 0))
    state = work(one)
    assert (state.name, state.error) == ("failed", "RuntimeError: a bug, not a user's mistake")


def test_nothing_in_the_folder_of_the_sweep_takes_the_place_of_our_code(job):
    one = job()
    for name in ("gossamer", "yaml"):
        (one.run.parents[1] / name).mkdir()
        (one.run.parents[1] / name / "__init__.py").write_text("raise SystemExit(1)")
    assert work(one).name == "done"
