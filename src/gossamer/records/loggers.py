"""Loggers that a run can have beside its metrics.jsonl: none, CSV, TensorBoard, wandb.

Each is a plain class: `open(directory, config)` when the run begins or goes on, `log(metrics,
step)`, `rewind(step)` before a resumed stage logs again, `finish(record, directory)` when the run
is done, and `close(exit_code)` in every case.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Null:
    """No logger."""

    def open(self, directory: Path, config: Mapping[str, Any]) -> None:
        pass

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def rewind(self, step: int) -> None:
        pass

    def finish(self, record: Mapping[str, Any], directory: Path) -> None:
        pass

    def close(self, exit_code: int) -> None:
        pass
