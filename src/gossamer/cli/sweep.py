"""gossamer -m …: every job checked and frozen at submission, run in a fresh process, reported."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from gossamer.cli.check import Command
from gossamer.cli.freeze import freeze
from gossamer.cli.frozen import write
from gossamer.cli.overrides import parse
from gossamer.errors import DONE, FAILED, PREEMPTED, ConfigError, ResumeError
from gossamer.measure.neighbours import NEIGHBOURS, UNKNOWN
from gossamer.records.locks import alone
from gossamer.revision import code_digest, git_state, snapshot
from gossamer.sweep import jobs as sweeps
from gossamer.sweep import outcome, slurm, table
from gossamer.sweep.driving import Workers, drive
from gossamer.sweep.jobs import Job, State
from gossamer.sweep.work import SUBMITTED
from gossamer.sweep.work import work as run_job

entered: list[bool] = []  # has Hydra come as far as our code? What goes wrong there is a bug
OURS = "hydra_plugins.gossamer_launchers."
QUEUED = OURS + "SubmititSlurm"
CODE = "code"  # in the sweep's folder: copies of the package, see sweep.snapshot


def call(command: Command, argv: Sequence[str], launch: Callable[[Sequence[str]], int]) -> int:
    """Freeze the jobs of a checked sweep, launch them through Hydra, print each one's state.

    Exit status: 0 all done (or submitted, with sweep.wait=false), 1 one failed, 3 one is to go on
    and none failed: the same command goes on with what is not done."""
    assert command.base is not None
    options = command.base.sweep
    _refuse(command.base)
    folder = _folder(command, argv)
    busy = ResumeError(
        f"{folder}: another process runs this sweep; to look at it: gossamer sweep status {folder}"
    )
    with alone(folder / sweeps.LOCK, busy, timeout=1):  # whoever only looks has it for a moment
        if command.enumerated:
            jobs = [freeze_job(freeze(job), job.overrides, folder) for job in command.jobs]
            jobs = list({job.key: job for job in jobs}.values())
            settled = _settled(jobs, retry=options.retry, rerun=bool(command.base.rerun))
            print(f"sweep {folder}: {len(jobs) - len(settled)} of {len(jobs)} jobs to run")
        else:
            jobs, settled = sweeps.known(folder), {}
            print(f"sweep {folder}: a search", flush=True)
        sweeps.write(folder, jobs, _about(folder, argv, options), settled)
        if len(settled) < len(jobs) or not command.enumerated:
            launch(
                [
                    *_swept(command, argv),
                    f"hydra.sweep.dir={json.dumps(str(folder), ensure_ascii=False)}",
                ]
            )
    manifest = sweeps.read(folder)
    jobs = sweeps.of(folder, manifest)
    states = list(sweeps.states(jobs, manifest))
    submitted = not options.wait
    if submitted or any(not state.over for state in states):
        print(table.counts(states))
        print(f"to follow: gossamer sweep status {folder}")
        return DONE if submitted else PREEMPTED
    table.show(jobs, states)
    status = table.status(states)
    if not command.enumerated and (found := outcome.read(folder)) is not None:
        outcome.show(found)
        status = FAILED if found["errors"] else status
    return status


def launch(workers: Workers, config: DictConfig, typed: Sequence[Sequence[str]]) -> list[State]:
    """What a launcher does with the jobs that a sweeper hands over: run those that are not settled.
    Returns the state of each, in order."""
    entered.append(True)
    folder = Path(config.hydra.sweep.dir)
    manifest = sweeps.read(folder)
    known = {key(job.overrides): job for job in sweeps.of(folder, manifest)}
    jobs = [known[key(overrides)] for overrides in typed]
    options = manifest["options"]
    _leave_slurm(folder, workers)
    written = (folder / sweeps.MANIFEST).stat().st_mtime
    open_ones = [
        job
        for job in dict.fromkeys(jobs)
        # one that was still in a queue when the sweep was started again may have ended since
        if job.key not in manifest["settled"] and job.state().finished < written
    ]
    workers.environment = {**workers.environment, **which_code(manifest)}
    every = list(known.values())
    places, common = {job: place for place, job in enumerate(every)}, table.shared(every)
    if options["wait"]:
        drive(
            open_ones,
            workers,
            stop_on_error=options["on_error"] == "stop",
            tell=lambda job, state: print(
                table.line(job, state, places[job], common), file=sys.stderr, flush=True
            ),
        )
    else:
        with workers:
            workers.start(open_ones)
    return list(sweeps.states(jobs, manifest))


def _refuse(config: DictConfig) -> None:
    """Settings that would be ignored. Raises ConfigError."""
    launcher, options = str(config.hydra.launcher._target_), config.sweep
    problems = []
    if not options.wait and not launcher.startswith(QUEUED):
        problems.append(
            "sweep.wait=false: only with hydra/launcher=submitit_slurm, whose queue goes on alone"
        )
    elif not options.wait and options.on_error == "stop":
        problems.append("sweep.on_error=stop: nobody is there to stop, with sweep.wait=false")
    if options.on_error == "stop" and not launcher.startswith(OURS):
        problems.append(
            f"sweep.on_error=stop: hydra/launcher {launcher} does not stop; use local, "
            "submitit_slurm or ray"
        )
    if config.hydra.sweeper.get("max_batch_size"):
        problems.append(
            "hydra.sweeper.max_batch_size: a sweep is no batches here; hydra.launcher.workers "
            "bounds how many jobs run at once"
        )
    if problems:
        raise ConfigError(*problems)


def _leave_slurm(folder: Path, workers: Workers) -> None:
    """A sweep that was in a Slurm queue may go on elsewhere once none of its jobs is there."""
    ids = {} if workers.queued else slurm.read_ids(folder)
    if not ids:
        return
    if {*ids.values()} & slurm.queue().keys():
        raise ResumeError(
            f"{folder}: jobs of this sweep are still in the Slurm queue; scancel them first, or "
            f"follow them: gossamer sweep status {folder}"
        )
    (folder / slurm.IDS).unlink()


def which_code(manifest: dict[str, Any]) -> dict[str, str]:
    """The variables that make a job run the code that was submitted, or notice that it is not."""
    if manifest["snapshot"] is None:
        return {SUBMITTED: manifest["code"]}
    path = [manifest["snapshot"], os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def _about(folder: Path, argv: Sequence[str], options: DictConfig) -> dict[str, Any]:
    """What the manifest says of a submission, besides its jobs."""
    return {
        "command": list(argv),
        "cwd": os.getcwd(),
        "options": OmegaConf.to_container(options),
        "code": code_digest(),
        "git": git_state()[0],
        "snapshot": os.path.abspath(snapshot(folder / CODE)) if options.snapshot else None,
    }


def freeze_job(config: dict[str, Any], overrides: Sequence[str], folder: Path) -> Job:
    """Write the frozen config of a job of the sweep in `folder`."""
    # what the overrides mean may change between two starts, in a file that they choose
    name = f"{key(overrides)}-{config['digest']}"
    config = {**config, "sweep": folder.name}
    write(config, folder / "jobs" / f"{name}.yaml")
    return Job(os.path.abspath(folder), name, tuple(overrides), config["directory"], os.getcwd())


def _settled(jobs: Sequence[Job], *, retry: bool, rerun: bool) -> dict[str, State]:
    """The jobs that need not run, by key. Two that are one run, as seed=1 and the default are, run
    once."""
    settled: dict[str, State] = {}
    first: dict[str, int] = {}
    for place, job in enumerate(jobs):
        state = sweeps.settle(job, retry=retry, rerun=rerun)
        if job.directory in first:
            state = State("skipped", error=f"the same run as #{first[job.directory]}")
        if state is not None:
            settled[job.key] = state
        first.setdefault(job.directory, place)
    return settled


def key(overrides: Sequence[str]) -> str:
    """A word for what was typed for a job; Hydra hands 1e-3 over as 0.001."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    written = [f"{each.get_key_element()}={each.get_value_element_as_str()}" for each in parsed]
    return _short(written)


def _short(words: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:12]


def _folder(command: Command, argv: Sequence[str]) -> Path:
    """outputs/sweeps/<digest of the jobs>, unless hydra.sweep.dir says where."""
    assert command.base is not None
    chosen = Path(str(command.base.hydra.sweep.dir))
    if any(each.lstrip("+").startswith("hydra.sweep.dir=") for each in argv):
        return chosen
    if not command.enumerated:
        from gossamer.cli.search import identity

        return chosen / _short(identity(command, argv))
    typed = [job.overrides for job in command.jobs]
    return chosen / _short([json.dumps(each) for each in typed])


def _swept(command: Command, argv: Sequence[str]) -> list[str]:
    """The arguments, with each single value written as a sweep over one: Hydra applies single
    values to the *default* choices first, and refuses a key that only the swept choices have."""
    written = []
    for text in argv:
        parsed = [] if text.startswith("-") or "=" not in text else parse([text], command.tree)[0]
        override = parsed[0] if parsed else None
        if override is not None and override.key_or_group.partition(".")[0] == "sweep":
            continue  # the manifest has it
        plain = (
            override is not None
            and not override.is_sweep_override()
            and not override.is_delete()
            and not override.is_hydra_override()
            and not command.tree.is_group(override.key_or_group)
        )
        name, _, value = text.partition("=")
        written.append(f"{name}=choice({value})" if plain else text)
    return written


def work(overrides: Sequence[str], folder: Path) -> State:
    """One job under a launcher that is not ours (joblib, …): Hydra's task function comes here."""
    manifest = sweeps.read(folder)
    job = {key(each.overrides): each for each in sweeps.of(folder, manifest)}[key(overrides)]
    if job.key in manifest["settled"]:
        return State(**manifest["settled"][job.key])
    heard: list[int] = []
    state = run_job(job, {NEIGHBOURS: UNKNOWN, **which_code(manifest)}, heard)
    if heard:  # the sweep was asked to stop, and not this job alone
        raise SystemExit(PREEMPTED)
    return state
