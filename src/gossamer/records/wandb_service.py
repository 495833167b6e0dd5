"""The wandb service, as `gossamer sync-wandb` sees it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.errors import FAILED, ConfigError, StageError
from gossamer.records.wandb import begin, end, has_key, tell
from gossamer.records.wandb_sync import EXIT, MARK, Replay, There

TIMEOUT = 20  # seconds for one answer


class Service:
    """Raises ConfigError if wandb has no key; a login is never asked for."""

    def __init__(self) -> None:
        import wandb

        if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
            raise ConfigError(
                f"sync-wandb: WANDB_MODE={mode} forbids to send; type unset WANDB_MODE"
            )
        if not has_key():
            raise ConfigError(
                "sync-wandb: wandb has no key; run `wandb login` or set WANDB_API_KEY, or see "
                "with --dry-run what would be sent"
            )
        self.api: Any = None  # made when it is asked, for it asks the service at once
        self.address: str = wandb.Settings().base_url

    def there(self, project: str, entity: str | None, id: str) -> There:
        import wandb

        path = "/".join([*([entity] if entity else []), project, id])
        try:
            self.api = self.api or wandb.Api(timeout=TIMEOUT)
            self.api.flush()  # what it answered before may be what this process replaced
            run = self.api.run(path)
            step = run.lastHistoryStep
        except (wandb.errors.Error, ValueError) as error:
            if "could not find" in str(error).lower():  # the run, or the project
                return There()
            raise StageError(str(error).splitlines()[0]) from error
        return There(run.summary.get(MARK), step if step >= 0 else None)

    def send(self, replay: Replay, rows: Mapping[int, Mapping[str, float]], mark: str) -> str:
        """Raises StageError for whatever wandb or the network refuses: the next call goes on."""
        import wandb

        try:
            return self._send(replay, rows, mark)
        except (wandb.errors.Error, ValueError, OSError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise StageError(f"wandb: {reason}; the same command goes on from there") from error

    def _send(self, replay: Replay, rows: Mapping[int, Mapping[str, float]], mark: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            run = begin(
                replay.identity,
                replay.project,
                replay.entity,
                Path(folder),
                "online",
                watched=False,  # this machine's load is not the run's
            )
            status = FAILED
            try:
                for step, row in rows.items():
                    run.log(dict(row), step=step)
                for artefact in tell(run, replay.record, replay.artefacts, replay.pictures):
                    artefact.wait()
                run.summary.update({MARK: mark})
                status = EXIT[replay.record["status"]]
            finally:
                end(run, status)
            return run.entity
