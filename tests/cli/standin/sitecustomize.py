"""Put on PYTHONPATH by the tests of the door and of sweeps: in their processes a run only notes its
config, and ends as `task.metric` says (an exit status, `kill`, `bug`, `memory`, `slow`, or `wait`
for a signal to stop, after which it ends well the next time)."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

STATUS = {0: "done", 1: "failed", 3: "preempted"}


def run(config):
    directory = Path(config["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    note = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "argv": sys.argv,
        "config": config,
        "environment": dict(os.environ),
        "code": sys.modules["gossamer"].__file__,
        "began": time.time(),
    }
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, _stop(directory)) for number in numbers}
    (directory / "note.json").write_text(json.dumps(note))
    status = _end(config["task"]["metric"], directory)
    for number, handler in before.items():
        signal.signal(number, handler)
    (directory / "note.json").write_text(json.dumps({**note, "ended": time.time()}))
    return _record(directory, status)


def _stop(directory):
    def stop(number, frame):
        _record(directory, 3)
        os._exit(3)  # the real one saves its state and ends by itself

    return stop


def _end(asked, directory):
    match asked:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "bug":
            raise RuntimeError("a bug, not a user's mistake")
        case "memory":
            return "out of memory: as told"
        case "wait" if not (directory / "waited").exists():
            (directory / "waited").touch()
            time.sleep(60)
        case "slow":
            time.sleep(1)
        case "0" | "1" | "2" | "3":
            return int(asked)
    return 0


def _record(directory, status):
    error = status if isinstance(status, str) else "as told"
    number = 1 if isinstance(status, str) else status
    if number in STATUS:
        record = {"status": STATUS[number], "error": error}
        (directory / "record.json").write_text(json.dumps(record))
    return number


standin = ModuleType("gossamer.run")
standin.run = run
sys.modules["gossamer.run"] = standin
