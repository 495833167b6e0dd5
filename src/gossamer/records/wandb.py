"""The wandb logger, and how wandb is told; docs/wandb.md says what lies where."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gossamer.errors import PREEMPTED, ConfigError, ResumeError, StageError
from gossamer.records import wandb_content as content

Mode = Literal["online", "offline", "disabled"]


class Wandb:
    """One wandb run per run: the same id when it is resumed, the record's figures as its summary,
    the per-layer ledger as a table, models as artefacts that name what they were made from.

    mode      auto: online if wandb has a key, else offline (and WANDB_MODE decides if it is set);
              a login is never asked for
    group     None: the sweep, or the seeds of the configuration if the run is in none
    tags      added to those made from the choices
    artifact  none; export: the exported model is uploaded, what it was made from is named; stages:
              each stage's weights are uploaded as well
    """

    def __init__(
        self,
        project: str = "gossamer",
        entity: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] = (),
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        artifact: Literal["none", "export", "stages"] = "export",
    ) -> None:
        self.project = project
        self.entity = entity
        self.group = group
        self.tags = tuple(tags)
        self.mode = mode
        self.artifact = artifact
        self.run: Any = None

    def open(self, directory: Path, config: Mapping[str, Any]) -> None:
        """Raises ConfigError for mode=online without a key, StageError if another run is active or
        wandb cannot begin one."""
        import wandb

        if wandb.run is not None:
            raise StageError(
                f"logger=wandb: the wandb run {wandb.run.id} is still active in this process; "
                "finish it first (two runs would be logged as one)"
            )
        mode = self._mode()
        told = content.identity(config, self.group, self.tags)
        try:
            self.run = begin(told, self.project, self.entity, directory, mode)
        except StageError as error:
            raise StageError(
                f"logger=wandb: {error}; logger.mode=offline works without a network"
            ) from error

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def rewind(self, step: int) -> None:
        """wandb keeps what it was given, and drops a step that it was given before: the repeated
        ones are equal."""

    def finish(self, record: Mapping[str, Any], directory: Path) -> None:
        import wandb

        disabled = self.run.settings.mode == "disabled"
        keep: content.Keep = "none" if disabled else self.artifact
        try:
            artefacts = content.lineage(record, directory, keep)
            tell(self.run, record, artefacts, content.drawn(directory))
        except (wandb.errors.Error, ResumeError, OSError, ValueError) as error:
            # the result is whole without wandb, and is not to be lost to its network
            print(
                f"wandb was not told everything: {str(error).splitlines()[0]}; later: "
                f"gossamer sync-wandb {directory.parent}",
                file=sys.stderr,
            )

    def close(self, exit_code: int) -> None:
        run, self.run = self.run, None
        if run is None:
            return
        place, offline = Path(run.dir).parent, run.settings.mode == "offline"
        end(run, exit_code)
        if offline:
            home = place.parent.parent  # the run's directory: wandb writes <it>/wandb/<run>
            print(
                f"wandb offline ({place}); to upload: gossamer sync-wandb {home}", file=sys.stderr
            )

    def _mode(self) -> Mode:
        asked: str = self.mode
        if asked == "auto":
            asked = os.environ.get("WANDB_MODE", "auto")
        if asked == "disabled":
            return "disabled"
        if asked in ("offline", "dryrun"):
            return "offline"
        keyed = has_key()
        if asked == "online" and not keyed:
            raise ConfigError(
                "logger.mode=online: wandb has no key, or WANDB_MODE forbids it; run `wandb login` "
                "first, or use logger.mode=offline"
            )
        return "online" if keyed else "offline"


def has_key() -> bool:
    """Whether wandb has a key to log in with; it is not tried, and never asked for."""
    import wandb

    return bool(wandb.login(prompt=False, verify=False))


def begin(
    identity: Mapping[str, Any],
    project: str,
    entity: str | None,
    directory: Path,
    mode: Mode,
    watched: bool = True,
) -> Any:
    """A wandb run that sends what it is told, and of its own the machine's load, if `watched`.
    A run that wandb has is gone on with. Raises StageError, one line, if wandb refuses."""
    import wandb

    try:
        return wandb.init(
            project=project,
            entity=entity,
            dir=str(directory),
            resume="allow" if mode == "online" else None,
            mode=mode,
            save_code=False,
            **identity,
            settings=wandb.Settings(
                silent=True,
                console="off",  # ours has a progress bar
                disable_git=True,  # the record has the commit
                disable_job_creation=True,
                x_disable_meta=True,  # it would send the command line, which may hold a token
                x_save_requirements=False,  # the run's environment.json has them
                x_disable_stats=not watched,
            ),
        )
    except wandb.errors.Error as error:
        raise StageError(str(error).splitlines()[0]) from error


def tell(
    run: Any,
    record: Mapping[str, Any],
    artefacts: list[content.Artefact],
    pictures: Sequence[tuple[Path, str]] = (),
) -> list[Any]:
    """Summary, per-layer table, pictures (file, what is seen) and artefacts of a run that ended;
    the artefacts it left, which are still being sent. wandb knows no input of a run that is
    offline, so those of `artefacts` are told by `gossamer sync-wandb`, later."""
    import wandb

    run.summary.update(content.summary(record))
    columns, rows = content.layers(record)
    if columns:
        # in the summary, for a row of the history would be a step that the run never took
        run.summary["layers"] = wandb.Table(columns=columns, data=rows)
    if pictures:
        run.summary["pictures"] = [wandb.Image(str(file), caption=told) for file, told in pictures]
    sent = []
    for artefact in artefacts:
        if not artefact.used:
            sent.append(run.log_artifact(_artifact(artefact)))
        elif run.settings.mode == "online":
            run.use_artifact(_artifact(artefact))
    return sent


def end(run: Any, exit_code: int) -> None:
    """Close the run; wandb waits until everything was sent."""
    if exit_code == PREEMPTED:
        run.mark_preempting()
    run.finish(exit_code=exit_code)


def _artifact(artefact: content.Artefact) -> Any:
    import wandb

    made = wandb.Artifact(artefact.name, type="model", metadata=dict(artefact.metadata))
    for name, text in artefact.texts.items():
        with made.new_file(name, encoding="utf-8") as file:
            file.write(text)
    for name, path in artefact.files.items():
        if not artefact.upload:
            made.add_reference(f"file://{path.resolve()}", name=name)
        elif path.parent.name == "state":  # gone when the run is done: copied until it is uploaded
            made.add_file(str(path), name=name)
        else:  # stays where it is
            made.add_file(str(path), name=name, skip_cache=True, policy="immutable")
    return made
