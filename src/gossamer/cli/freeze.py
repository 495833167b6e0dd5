"""A composed job as one plain dict: what a run reads, what lies in its directory as config.yaml."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from gossamer.cli.check import Job
from gossamer.cli.rundir import default_name, digest, run_directory
from gossamer.cli.tree import SEVERAL, Tree


def freeze(job: Job) -> dict[str, Any]:
    """The resolved config of a checked job, every key of conf/config.yaml and its groups, and

    choices      {model, dataset, task, trainer, …: name, compression: [names], experiment}
    overrides    what was typed for this job, as typed
    digest       12 hex digits over what changes the result
    directory    where the run lives, see rundir.py
    sweep        name of the sweep's folder; null here, filled in for the jobs of a sweep
    twin_config  only if `twin` is a list of overrides: the resolved config of that twin
    """
    assert job.composed is not None
    frozen = plain(job.config, job.composed.hydra.runtime.choices, job.tree)
    frozen["overrides"] = list(job.overrides)
    if job.twin is not None:
        frozen["twin_config"] = plain(job.twin, job.twin_choices, job.tree)
        frozen["twin_config"][SEVERAL] = {}
        frozen["twin_config"]["choices"][SEVERAL] = []
    frozen["digest"] = digest(frozen)
    frozen["directory"] = str(run_directory(frozen))
    return frozen


def plain(config: Mapping[str, Any], chosen: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    """Config and the names of its choices; a name that was left null is filled in."""
    frozen = copy.deepcopy(dict(config))
    choices: dict[str, Any] = {slot: chosen.get(slot) for slot in tree.slots}
    choices[SEVERAL] = list(frozen.get(SEVERAL) or {})
    frozen["choices"] = choices
    frozen["sweep"] = None  # its settings are for the one who submits, not for a job
    frozen["name"] = frozen.get("name") or default_name(choices)
    return frozen
