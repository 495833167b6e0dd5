"""gossamer plan: every problem before a weight is allocated, or what the run would do."""

from __future__ import annotations

import argparse

from gossamer.cli.commands.places import tree_options
from gossamer.errors import DONE, ConfigError


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer plan",
        description="Check a run, or every job of a sweep, before a weight is allocated, and say "
        "what it would do. All problems at once, one line each; exit status 2.",
    )
    found.add_argument("overrides", nargs="*", help="as for a run: model=minilm trainer.steps=300")
    found.add_argument("-m", "--multirun", action="store_true", help="plan each job of a sweep")
    tree_options(found)
    return found


def call(args: argparse.Namespace) -> int:
    from gossamer.cli.check import examine
    from gossamer.cli.freeze import freeze
    from gossamer.cli.overrides import spell

    args.overrides = spell(args.overrides)
    command = examine(args)
    if command.problems:
        raise ConfigError(*command.problems)
    from gossamer.plan import plan as second_pass

    problems: list[str] = []
    for job in command.jobs:
        if len(command.jobs) > 1:
            print(f"== {' '.join(job.overrides)}")
        try:
            print(second_pass(freeze(job)))
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfigError(*problems)
    return DONE
