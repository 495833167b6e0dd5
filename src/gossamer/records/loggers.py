"""Loggers that a run can have beside its metrics.jsonl: none, CSV, TensorBoard (wandb has its own
file).

Each is a plain class: `open(directory, config)` when the run begins or goes on, `log(metrics,
step)`, `rewind(step)` before a resumed stage logs again, `finish(record, directory)` when the run
is done, and `close(exit_code)` in every case, also if `open` failed.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.records.record import refused, write_text
from gossamer.records.schema import saved
from gossamer.records.table import speed_labels


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


class Csv:
    """A table in the run's directory: a row per logged step, a column per metric, "" where a metric
    was not logged. A metric that appears later than the others makes the file be written anew."""

    def __init__(self, file: str = "metrics.csv") -> None:
        self.file = file

    def open(self, directory: Path, config: Mapping[str, Any]) -> None:
        self.path = directory / self.file
        self.columns, self.rows = ["step"], []
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as stream:
                reader = csv.DictReader(stream)
                self.columns = list(reader.fieldnames or self.columns)
                # a killed run may have left half a row
                self.rows = [row for row in reader if None not in row.values()]
        self._write()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        row: dict[str, Any] = {"step": step, **metrics}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._write()
            return
        try:
            with self.path.open("a", newline="", encoding="utf-8") as stream:
                csv.DictWriter(stream, self.columns).writerow(row)
        except OSError as error:
            raise refused(self.path, error) from error

    def rewind(self, step: int) -> None:
        self.rows = [row for row in self.rows if int(row["step"]) <= step]
        self._write()

    def finish(self, record: Mapping[str, Any], directory: Path) -> None:
        pass

    def close(self, exit_code: int) -> None:
        pass

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())


class TensorBoard:
    """Event files in the run's directory; `tensorboard --logdir outputs` shows every run."""

    def __init__(self, folder: str = "tensorboard", flush_seconds: int = 30) -> None:
        self.folder = folder
        self.flush_seconds = flush_seconds
        self.writer: Any = None

    def open(self, directory: Path, config: Mapping[str, Any]) -> None:
        self.directory = directory / self.folder
        self._begin(None)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        self.writer.close()
        self._begin(step + 1)  # hides what the interrupted run had logged from there on

    def finish(self, record: Mapping[str, Any], directory: Path) -> None:
        choices = record["choices"]
        chosen = {**choices, "compression": "+".join(choices["compression"]) or "none"}
        self.writer.add_hparams(
            {**chosen, "seed": record["seed"]},
            {name: value for name, value in figures(record).items() if value is not None},
            run_name=".",
        )

    def close(self, exit_code: int) -> None:
        if self.writer is not None:
            self.writer.close()

    def _begin(self, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(
            str(self.directory), purge_step=purge_step, flush_secs=self.flush_seconds
        )


def figures(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The record's ledgers as flat numbers, each under its ledger's name."""
    found: dict[str, float | None] = {}
    for side in ("dense", "compressed"):
        for name, value in record["quality"][side].items():
            found[f"quality/{side}/{name}"] = value
    for ledger in ("size", "compute", "budget"):
        for name, value in record[ledger].items():
            if isinstance(value, int | float):
                found[f"{ledger}/{name}"] = value
    for name, value in saved(record["compute"]).items():
        found[f"compute/{name}"] = value
    for label, entry in zip(speed_labels(record["speed"]), record["speed"], strict=True):
        if "skipped" not in entry:
            for side in ("dense", "compressed"):
                for name, value in entry[side].items():
                    found[f"speed/{label}/{side}/{name}"] = value
    found["checks/failed"] = sum(not check["passed"] for check in record["checks"])
    return found
