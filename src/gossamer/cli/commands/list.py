"""gossamer list: the choices, one line each."""

from __future__ import annotations

import argparse

from gossamer.cli.commands.places import tree_options
from gossamer.errors import DONE, ConfigError

GROUPS = ("models", "datasets", "compressions", "tasks", "experiments")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        "gossamer list", description="The choices, one line each, with what goes with what."
    )
    found.add_argument("groups", nargs="*", metavar="GROUP", help=" | ".join(GROUPS))
    found.set_defaults(overrides=[])
    tree_options(found)
    return found


def call(args: argparse.Namespace) -> int:
    from gossamer.cli.listing import listing
    from gossamer.cli.suggest import did_you_mean

    for group in args.groups:
        if group not in GROUPS:
            raise ConfigError(
                f"{group}: no such list{did_you_mean(group, GROUPS)}; there are {', '.join(GROUPS)}"
            )
    from gossamer.cli.check import open_tree

    print(listing(open_tree(args), args.groups or GROUPS))
    return DONE
