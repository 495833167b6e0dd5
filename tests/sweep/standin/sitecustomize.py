"""Put on PYTHONPATH by the tests of a search: in their processes a run notes how it was started and
leaves the record in GOSSAMER_TEST_RECORD, with its seed as validation quality. With seed=1 it waits
to be stopped, the first time."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace


def run(config):
    directory = Path(config["directory"])
    again = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    (directory / "note.json").write_text(json.dumps({"argv": sys.argv, "loaded": loaded}))
    if config["seed"] == 1 and not again:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))
        (directory / "waits").touch()
        time.sleep(60)
    record = json.loads(Path(os.environ["GOSSAMER_TEST_RECORD"]).read_text())
    record["stages"][0]["quality_after"] = {"accuracy": config["seed"] / 10}
    (directory / "record.json").write_text(json.dumps(record))
    return 0


def checked(config):
    task = SimpleNamespace(primary=lambda info: ("accuracy", "max"))
    return SimpleNamespace(task=task, data=SimpleNamespace(info=None))


for name, content in {"gossamer.run": {"run": run}, "gossamer.plan": {"checked": checked}}.items():
    standin = ModuleType(name)
    standin.__dict__.update(content)
    sys.modules[name] = standin
