"""Put on PYTHONPATH by the tests of the door: in their processes a run only notes its config, and
ends as `task.metric` says (an exit status, `kill`, `bug`, or `wait` for a signal to stop)."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType


def run(config):
    directory = Path(config["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    note = {"pid": os.getpid(), "argv": sys.argv, "config": config}
    stop = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))
    (directory / "note.json").write_text(json.dumps(note))
    match config["task"]["metric"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "bug":
            raise RuntimeError("a bug, not a user's mistake")
        case "wait":
            time.sleep(60)
        case str(status):
            return int(status)
    signal.signal(signal.SIGTERM, stop)
    return 0


standin = ModuleType("gossamer.run")
standin.run = run
sys.modules["gossamer.run"] = standin
