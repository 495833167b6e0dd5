"""The wandb logger."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gossamer.errors import ConfigError, StageError
from gossamer.records.loggers import figures
from gossamer.records.secrets import without_secrets

TAG = 64  # characters that wandb allows


class Wandb:
    """One wandb run per run: the same id when it is resumed, seeds of one configuration in one
    group, the record's figures as its summary, the per-layer ledger as a table, the exported folder
    as an artefact.

    mode  auto: online if wandb has a key, else offline (and WANDB_MODE decides if it is set);
          a login is never asked for
    group, tags  None, (): made from the choices; tags are added to those
    """

    def __init__(
        self,
        project: str = "gossamer",
        entity: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] = (),
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        artifact: bool = True,
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
        mode = self._mode(wandb)
        choices = config["choices"]
        methods = [name for name in choices["compression"] if name != "none"]
        title = f"{choices['model']}-{choices['dataset']}-{'+'.join(methods) or 'none'}"
        name = config.get("name") or title
        words = [title] if name in (title, title.replace("/", "_")) else [title, name]
        tags = [f"method:{method}" for method in methods or ["none"]]
        tags += [f"model:{choices['model']}", f"dataset:{choices['dataset']}", *self.tags]
        try:
            self.run = wandb.init(
                project=self.project,
                entity=self.entity,
                dir=str(directory),
                id=f"{config['digest'][:12]}-s{config['seed']}",  # the record's
                resume="allow" if mode == "online" else None,
                name=f"{title} seed {config['seed']}",
                group=self.group or " ".join([*words, config["digest"][:8]]),
                job_type="compress" if methods else "train",
                tags=[tag[:TAG] for tag in tags],
                config=without_secrets(config),
                mode=mode,
                save_code=False,
                settings=wandb.Settings(
                    silent=True,
                    console="off",  # ours has a progress bar
                    disable_git=True,  # the record has the commit
                    disable_job_creation=True,
                    x_disable_meta=True,  # it would send the command line, which may hold a token
                ),
            )
        except wandb.errors.Error as error:
            raise StageError(
                f"logger=wandb: {str(error).splitlines()[0]}; logger.mode=offline works without a "
                "network"
            ) from error
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.run.log({**metrics, "step": step})

    def rewind(self, step: int) -> None:
        """wandb keeps what it was given; the repeated steps are equal and lie on the same step
        axis."""

    def finish(self, record: Mapping[str, Any], directory: Path) -> None:
        import wandb

        self.run.summary.update(figures(record))
        layers = record["layers"]
        if layers:
            table = wandb.Table(columns=list(layers[0]))
            for layer in layers:
                table.add_data(*(_cell(value) for value in layer.values()))
            self.run.log({"layers": table})
        if self.artifact and self.run.settings.mode != "disabled":
            name = re.sub(r"[^\w.-]", "-", f"model-{record['id']}")
            artifact = wandb.Artifact(name, type="model", metadata=dict(record["size"]))
            # the files stay where they are until they are uploaded, so they are not copied
            artifact.add_dir(str(directory / "export"), skip_cache=True, policy="immutable")
            self.run.log_artifact(artifact)

    def close(self, exit_code: int) -> None:
        run, self.run = self.run, None
        if run is None:
            return
        place, offline = Path(run.dir).parent, run.settings.mode == "offline"
        run.finish(exit_code=exit_code)
        if offline:
            print(f"wandb offline; to upload: wandb sync {place}", file=sys.stderr)

    def _mode(self, wandb: Any) -> Literal["online", "offline", "disabled"]:
        asked: str = self.mode
        if asked == "auto":
            asked = os.environ.get("WANDB_MODE", "auto")
        if asked == "disabled":
            return "disabled"
        if asked in ("offline", "dryrun"):
            return "offline"
        keyed = bool(wandb.api.api_key)
        if asked == "online" and not keyed:
            raise ConfigError(
                "logger.mode=online: wandb has no key; run `wandb login` first, or use "
                "logger.mode=offline"
            )
        return "online" if keyed else "offline"


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value
