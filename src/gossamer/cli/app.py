"""The Hydra application: what happens between the command line and a run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gossamer import crew
from gossamer.cli import sweep
from gossamer.cli.check import Job, arguments, examine, examine_job
from gossamer.cli.freeze import freeze
from gossamer.cli.job import execute
from gossamer.cli.overrides import parse
from gossamer.cli.tree import conf_dir, opened
from gossamer.errors import DONE, FAILED, ConfigError, GossamerError

_status: list[int] = []  # what the task function of this process ended with


@hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")
def app(_: DictConfig) -> None:
    """One job, as Hydra hands it over. The config is composed again by the checks, with the same
    overrides and sources, so that what runs is exactly what was checked."""
    sweep.entered.append(True)
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        sweep.work(list(settings.overrides.task), Path(settings.sweep.dir))
    else:
        _status.append(execute(freeze(_job(settings))))


def _job(settings: HydraConf) -> Job:
    """The checked job behind Hydra's settings, also in a process that a cluster started."""
    tree = opened(settings)
    overrides, broken = parse([*settings.overrides.hydra, *settings.overrides.task], tree)
    job = examine_job(overrides, tree)
    if broken or job.problems:
        raise ConfigError(*broken, *job.problems)
    return job


def call(argv: Sequence[str]) -> int:
    """Everything that is not a subcommand: check first, then let Hydra do what it was asked."""
    args = arguments(argv)
    _flags(args)
    if args.shell_completion:
        return _hydra(args)
    if args.hydra_help:  # composes Hydra's own config only
        args.overrides = [each for each in args.overrides if each.startswith("hydra")]
        return _hydra(args)
    command = examine(args)
    if command.problems:
        raise ConfigError(*command.problems)
    if args.help or args.cfg or args.info or not command.multirun:
        return _hydra(args)
    if crew.appointed() > 1:
        raise ConfigError(
            f"--multirun: one process starts a sweep, not {crew.appointed()} (WORLD_SIZE); "
            "each job starts its own: gossamer -m … trainer=ddp trainer.devices=2"
        )

    def launch(overrides: Sequence[str]) -> int:
        args.overrides = list(overrides)
        return _hydra(args)

    return sweep.call(command, args.overrides, launch)


def _flags(args: argparse.Namespace) -> None:
    """What Hydra answers with a traceback, or what would read a pickle."""
    if args.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun: reads a pickle; use gossamer resume RUN")
    asked = {
        "--run": args.run,
        "--multirun": args.multirun,
        "--cfg": args.cfg is not None,
        "--info": args.info is not None,
        "--shell-completion": args.shell_completion,
    }
    several = [flag for flag, given in asked.items() if given]
    if len(several) > 1:
        raise ConfigError(f"{' '.join(several)}: only one of them at a time")
    if args.resolve and not (args.cfg or args.help):
        raise ConfigError("--resolve: only with --cfg or --help")


def _hydra(args: argparse.Namespace) -> int:
    """Call Hydra's main with these arguments; the exit status."""
    _status.clear()
    sweep.entered.clear()
    with _arguments(_spelled(args)), _raising():
        try:
            app()
        except SystemExit as stop:
            if not _status:
                return stop.code if isinstance(stop.code, int) else FAILED if stop.code else DONE
        except GossamerError:
            raise
        except Exception as error:
            if sweep.entered:
                raise  # a bug, not a setting
            text = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"hydra: {text}") from error
    return max(_status, default=DONE)


@contextmanager
def _raising() -> Iterator[None]:
    """Hydra raises what goes wrong, instead of printing a traceback of it and exiting with 1."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def _arguments(argv: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [before[0] if before else "gossamer", *argv]
    try:
        yield
    finally:
        sys.argv = before


def _spelled(args: argparse.Namespace) -> list[str]:
    """The arguments for Hydra: flags first, in any order they were typed; a relative --config-path
    from the user's folder, where Hydra would take it from this file's."""
    argv = []
    for name in ("help", "hydra_help", "resolve", "run", "multirun", "shell_completion"):
        argv += [f"--{name.replace('_', '-')}"] if getattr(args, name) else []
    if args.config_path is not None:
        argv += ["--config-path", str(Path(args.config_path).absolute())]
    for name in ("config_name", "config_dir", "cfg", "package", "info"):
        value = getattr(args, name)
        argv += [] if value is None else [f"--{name.replace('_', '-')}", value]
    return [*argv, *args.overrides]
