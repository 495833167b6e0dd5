"""What a run measures while it works: `metrics.jsonl`, one JSON object per line, always; and the
logger that the configuration names beside it.

    {"step": 10, "time": 1760000000.123, "train/loss": 0.71}

`step` is the run's one step axis, `time` is in seconds since 1970. A value that is not finite is
the text "nan", "inf" or "-inf", for JSON has no number for it.
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from gossamer import targets
from gossamer.errors import FAILED, ResumeError
from gossamer.records.record import refused, write_text

FILE = "metrics.jsonl"


class Metrics:
    """Use as a context manager; an exception that leaves it closes the logger as failed."""

    def __init__(self, directory: str | Path, config: Mapping[str, Any]) -> None:
        """`config["logger"]` is a node with a `_target_`; ConfigError if it cannot be built."""
        self.directory = Path(directory)
        self.config = config
        self.path = self.directory / FILE
        self.logger = targets.build(config["logger"], "logger")
        self.file: IO[str] | None = None

    def __enter__(self) -> "Metrics":
        self._keep(None)  # a killed run may have left half a line
        try:
            self.logger.open(self.directory, self.config)
        except BaseException:
            self._close(FAILED)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        code = 0 if error is None else getattr(error, "status", FAILED)
        try:
            self._close(code)
        except Exception as trouble:
            if error is None:
                raise
            # the run's own error is the one to be told
            print(f"logger: could not be closed: {trouble}", file=sys.stderr)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write `metrics` at `step`; StageError if the disk refuses."""
        if taken := {"step", "time"} & metrics.keys():
            raise ValueError(f"{self.path}: {', '.join(taken)}: no name for a metric")
        plain = {name: _plain(value) for name, value in metrics.items()}
        line = json.dumps({"step": step, "time": round(time.time(), 3), **plain}, allow_nan=False)
        try:
            if self.file is None:
                self.file = self.path.open("a", encoding="utf-8")
            self.file.write(line + "\n")
            self.file.flush()
        except OSError as error:
            raise refused(self.path, error) from error
        self.logger.log(metrics, step)

    def rewind(self, step: int) -> None:
        """Forget what was logged later than `step`, where a resumed run goes on."""
        self._keep(step)
        self.logger.rewind(step)

    def finish(self, record: Mapping[str, Any], directory: str | Path) -> None:
        """The run is done: hand its record and the folder of its artefacts to the logger."""
        self.logger.finish(record, Path(directory))

    def _keep(self, step: int | None) -> None:
        """Rewrite the file with the lines up to `step` (None: all) and without a torn last one."""
        self._release()
        if not self.path.exists():
            return
        text = self.path.read_text(encoding="utf-8", errors="replace")
        *lines, torn = text.split("\n")  # a complete last line leaves "" behind
        if step is not None:
            lines = [line for place, line in enumerate(lines, 1) if self._step(line, place) <= step]
        kept = "".join(line + "\n" for line in lines)
        if kept != text or torn:
            write_text(self.path, kept)

    def _step(self, line: str, place: int) -> int:
        try:
            return json.loads(line)["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(
                f"{self.path}: line {place} is damaged; delete that line to go on"
            ) from error

    def _release(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def _close(self, code: int) -> None:
        try:
            self._release()
        finally:
            self.logger.close(code)


def read(path: str | Path) -> Iterator[tuple[int, float, dict[str, float]]]:
    """(step, seconds since 1970, metrics) of each line, in order; values that are not finite as
    floats. Nothing for a run that logged nothing; half a last line is no line yet.

    Raises ResumeError, which names the line, for anything else that is no line of a run."""
    path = Path(path)
    if not path.exists():
        return
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for place, line in enumerate(lines, 1):
        try:
            logged = json.loads(line)
            step, seconds = int(logged.pop("step")), float(logged.pop("time"))
            values = {name: float(v) if isinstance(v, str) else v for name, v in logged.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResumeError(f"{path}: line {place} is damaged; delete that line") from error
        yield step, seconds, values


def _plain(value: Any) -> int | float | str:
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else str(number)
