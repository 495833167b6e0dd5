"""Runs that need what another process is busy with."""

import fcntl
import os
import threading
import time

import pytest

from gossamer.dense import Dense
from gossamer.errors import Preempted, ResumeError
from gossamer.interruption import interruption
from gossamer.records.locks import alone

BUSY = ResumeError("busy")


def busy(folder, seconds):
    """Somebody has the lock of `folder` for a while."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)  # as another process would have it
    fcntl.flock(lock, fcntl.LOCK_EX)
    timer = threading.Timer(seconds, os.close, [lock])
    timer.start()
    return timer


def test_a_job_of_a_sweep_waits_for_whoever_has_its_run(tmp_path):
    timer, began = busy(tmp_path, 0.5), time.monotonic()
    with alone(tmp_path / "lock", BUSY, timeout=-1):
        assert time.monotonic() - began > 0.4
    timer.join()


def test_a_command_does_not_wait_and_says_so(tmp_path):
    timer = busy(tmp_path, 0.5)
    refused = pytest.raises(ResumeError, match="busy")
    with refused, alone(tmp_path / "lock", BUSY):
        pass
    timer.join()


def test_a_run_that_waits_for_another_ones_base_can_be_stopped(tmp_path):
    dense = object.__new__(Dense)
    dense.directory = tmp_path
    timer = busy(tmp_path, 30)
    with interruption:
        interruption.requested = "SIGTERM"
        try:
            stopped = pytest.raises(Preempted, match="while waiting for another run's dense")
            with stopped, dense.lock():
                pass
        finally:
            interruption.requested = None
            timer.cancel()
