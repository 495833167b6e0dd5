"""A composed job as one plain dict: what a run reads, what lies in its directory as config.yaml."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gossamer.cli.check import Job
from gossamer.cli.rundir import default_name
from gossamer.cli.tree import SEVERAL, Tree


def freeze(job: Job) -> dict[str, Any]:
    """The resolved config of a checked job, every key of conf/config.yaml and its groups, and

    choices      {model, dataset, task, trainer, …: name, compression: [names], experiment}
    overrides    what was typed for this job, as typed
    twin_config  only if `twin` is a list of overrides: the resolved config of that twin
    """
    assert job.composed is not None
    frozen = plain(job.config, job.composed.hydra.runtime.choices, job.tree)
    frozen["overrides"] = list(job.overrides)
    if job.twin is not None:
        frozen["twin_config"] = plain(job.twin, job.twin_choices, job.tree)
        frozen["twin_config"][SEVERAL] = {}
        frozen["twin_config"]["choices"][SEVERAL] = []
    return frozen


def plain(config: Mapping[str, Any], chosen: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    """Config and the names of its choices; a name that was left null is filled in."""
    frozen = copy.deepcopy(dict(config))
    choices: dict[str, Any] = {slot: chosen.get(slot) for slot in tree.slots}
    choices[SEVERAL] = list(frozen.get(SEVERAL) or {})
    frozen["choices"] = choices
    frozen["name"] = frozen.get("name") or default_name(choices)
    return frozen


def write(config: Mapping[str, Any], file: Path) -> None:
    """Write a frozen config, atomically: another process may be reading the same path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(
        yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    temporary.replace(file)


def read(file: Path) -> dict[str, Any]:
    """Read a frozen config back. Raises ConfigError if the file is missing or is not one."""
    from gossamer.errors import ConfigError

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or "choices" not in content:
        raise ConfigError(f"{file}: is not the config of a run")
    return content
