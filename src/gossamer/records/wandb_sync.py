"""`gossamer sync-wandb`: what runs left on disk, told to wandb afterwards, once.

The local files are the truth. A run has one wandb run, whose id is the record's; what was sent is
known by a digest, which is the last thing that wandb is told and is noted in the run's directory.
A run that wandb has with this digest is left alone. One that it has in part (a call that was cut, a
run that went on since) is gone on with after the last step that it has: no step is sent twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from gossamer.errors import DONE, FAILED, PREEMPTED, GossamerError, StageError
from gossamer.records import metrics
from gossamer.records import wandb_content as content
from gossamer.records.compare import find
from gossamer.records.locks import alone
from gossamer.records.record import write_text

STATE = "wandb/synced.json"  # in the run's directory
MARK = "sync/content"  # in wandb's summary: the digest of what was sent, told last
LOGGER = "gossamer.records.wandb.Wandb"
EXIT = {"done": DONE, "failed": FAILED, "preempted": PREEMPTED}


@dataclass(frozen=True)
class Replay:
    """One run as wandb is to see it."""

    directory: Path
    record: Mapping[str, Any]
    project: str
    entity: str | None
    identity: Mapping[str, Any]  # arguments of wandb.init
    rows: Mapping[int, Mapping[str, float]]  # by step, ascending
    artefacts: list[content.Artefact]
    pictures: list[tuple[Path, str]] = field(default_factory=list)  # (file, what is seen)

    @property
    def id(self) -> str:
        return self.identity["id"]

    def digest(self) -> str:
        """SHA-256, hexadecimal, of all that would be sent. Where files lie is no part of it."""
        sent: dict[str, Any] = {
            "identity": self.identity,
            "rows": list(self.rows.items()),
            "summary": content.summary(self.record),
            "layers": content.layers(self.record),
            "artefacts": [
                [each.name, each.used, each.upload, each.metadata, sorted(each.files)]
                for each in self.artefacts
            ],
        }
        if self.pictures:  # runs without any keep the digest by which they are known
            sent["pictures"] = [
                [file.name, hashlib.sha256(file.read_bytes()).hexdigest(), caption]
                for file, caption in self.pictures
            ]
        return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class There:
    """What wandb has of a run: the digest of what it was told (None: not to its end), and its last
    step."""

    mark: str | None = None
    step: int | None = None


class Backend(Protocol):
    """Where runs are sent."""

    address: str

    def there(self, project: str, entity: str | None, id: str) -> There:
        """Nothing if there is no such run. Raises StageError if the service cannot be asked."""

    def send(self, replay: Replay, rows: Mapping[int, Mapping[str, float]], mark: str) -> str:
        """Tell `rows`, everything else of `replay`, then `mark`; returns the entity."""


def main(paths: Sequence[str], project: str | None, entity: str | None, dry_run: bool) -> int:
    """Send every run below `paths`, a line each; the exit status. Raises ConfigError without a
    key."""
    found = find(paths)
    for note in found.notes:
        print(note)
    records = [*found.records.items(), *found.unfinished.items()]
    if not records:
        print(f"{' '.join(paths)}: no run's record.json below; start one with `gossamer`")
        return FAILED
    newest: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for file, record in sorted(records, key=lambda each: each[1]["finished"]):
        newest[record["id"]] = file, record  # wandb has one run of an id
    from gossamer.records.wandb_service import Service

    backend = None if dry_run else Service()
    failed = False
    for file, chosen in newest.values():
        try:
            made = replay(file.parent, chosen, project, entity)
            print(f"{_sync(made, backend) if backend else _would(made)}: {file.parent}", flush=True)
        except GossamerError as error:
            failed = True
            print(f"not sent: {file.parent}: {str(error).splitlines()[0]}", flush=True)
    return FAILED if failed else DONE


def replay(
    directory: Path, record: Mapping[str, Any], project: str | None, entity: str | None
) -> Replay:
    """The run in `directory` as its own logger would have told it; `project` and `entity` go before
    what the run was given. A run without logger=wandb has that logger's defaults."""
    node = record["config"].get("logger")
    own: Mapping[str, Any]
    own = node if isinstance(node, Mapping) and node.get("_target_") == LOGGER else {}
    tags = list(own.get("tags") or ())
    if record["status"] != "done":
        tags.append(f"status:{record['status']}")
    told = content.identity(content.frozen(record), own.get("group"), tags)
    return Replay(
        directory,
        record,
        project or own.get("project") or "gossamer",
        entity or own.get("entity"),
        told,
        history(directory),
        content.lineage(record, directory, own.get("artifact", "export")),
        content.drawn(directory) if record["status"] == "done" else [],
    )


def history(directory: Path) -> dict[int, dict[str, float]]:
    """metrics.jsonl with one row for each step, ascending, as wandb wants it; `_timestamp` is when
    it was logged."""
    rows: dict[int, dict[str, float]] = {}
    for step, seconds, values in metrics.read(directory / metrics.FILE):
        rows.setdefault(step, {}).update(values, _timestamp=seconds)
    return dict(sorted(rows.items()))


def sync(made: Replay, backend: Backend) -> str:
    """Send one run unless it is there; what was done, in words."""
    digest, noted = made.digest(), _state(made.directory)
    known = noted.get("digest") == digest and _same_place(noted, made, backend)
    entity = made.entity or (noted["entity"] if known else None)
    try:
        there = backend.there(made.project, entity, made.id)
    except StageError as error:
        if not known:
            raise
        return f"sent earlier ({noted['sent']}; wandb could not be asked: {error})"
    if there.mark == digest:
        if not known:
            _note(made, backend, digest, entity)
        return "already there"
    rows = _rest(made, there)
    entity = backend.send(made, rows, digest)
    _note(made, backend, digest, entity)
    return f"sent {len(rows)} steps to {entity}/{made.project}/{made.id}"


def _rest(made: Replay, there: There) -> dict[int, Mapping[str, float]]:
    """The rows that wandb has not. Raises StageError if it has what this run never logged."""
    if there.step is None:
        return dict(made.rows)
    if there.step not in made.rows:
        raise StageError(
            f"wandb's {made.project}/{made.id} ends at step {there.step}, which is none of this "
            "run's; send it to another place with --project"
        )
    return {step: row for step, row in made.rows.items() if step > there.step}


def _sync(made: Replay, backend: Backend) -> str:
    busy = StageError("a process works on this run or sends it; wait for it")
    with alone(made.directory / "lock", busy):
        return sync(made, backend)


def _would(made: Replay) -> str:
    used = sum(artefact.used for artefact in made.artefacts)
    place = "/".join([*([made.entity] if made.entity else []), made.project, made.id])
    return (
        f"would send to {place}, group {made.identity['group']}: {len(made.rows)} steps, "
        f"{len(content.summary(made.record))} figures, {len(content.layers(made.record)[1])} "
        f"layers, {len(made.artefacts)} artefacts ({used} used), status {made.record['status']}"
    )


def _same_place(noted: Mapping[str, Any], made: Replay, backend: Backend) -> bool:
    place = (noted.get("address"), noted.get("project"), noted.get("id"))
    return place == (backend.address, made.project, made.id) and made.entity in (
        None,
        noted.get("entity"),
    )


def _state(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # never sent; or unreadable, and then wandb is asked
        return {}
    return found if isinstance(found, dict) else {}


def _note(made: Replay, backend: Backend, digest: str, entity: str | None) -> None:
    note = {
        "address": backend.address,
        "project": made.project,
        "entity": entity,
        "id": made.id,
        "digest": digest,
        "sent": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(made.directory / STATE, json.dumps(note, indent=1) + "\n")
