"""Overrides of groups (model=minilm): which choices there are, and how they may be spelled."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.types import Override

from gossamer.cli.overrides import naming, typed
from gossamer.cli.suggest import did_you_mean, line, nearest, one_of
from gossamer.cli.tree import SEVERAL, Tree
from gossamer.cli.validate import OPTIONAL
from gossamer.cli.values import show

HYDRA_SLOTS = (
    "hydra/output", "hydra/launcher", "hydra/sweeper", "hydra/help", "hydra/hydra_help",
    "hydra/hydra_logging", "hydra/job_logging", "hydra/callbacks", "hydra/env",
)  # fmt: skip


def is_choice(override: Override, tree: Tree) -> bool:
    """Does this override choose in a group, rather than set a key? The rule is Hydra's."""
    return tree.is_group(override.key_or_group) and not isinstance(override.value(), dict)


def choice_problem(override: Override, tree: Tree) -> str | None:
    """The one line that says what is wrong with `group=choice`, or None."""
    group, value = override.key_or_group, override.value()

    def wrong(message: str) -> str:
        return line(naming(override), typed(override), message)

    slots = [*tree.slots, *HYDRA_SLOTS]
    if override.package is not None:
        return wrong(f"the place of a group is fixed; write {group}={_example(group, value)}")
    if group not in slots:
        return _stray(override, slots, tree)
    if override.is_delete():
        if group in OPTIONAL or group == "experiment" or group.startswith("hydra/"):
            return None
        return wrong(
            f"a run needs one; choose another with {group}=…: {one_of(tree.options(group))}"
        )
    if override.is_add() or override.is_force_add():
        return wrong(
            f"{group} has a choice already; replace it with {group}={_example(group, value)}"
        )
    return _value_problem(override, tree)


def _stray(override: Override, slots: list[str], tree: Tree) -> str | None:
    """A group that is in the tree, but not in the defaults list: a folder inside a group, or one
    that another config folder adds, which + puts at the end of the list."""
    group, value = override.key_or_group, override.value()
    outer = group.partition("/")[0]
    if outer in slots:
        inner = group.partition("/")[2]
        message = f"choose with {outer}={inner}/{_example(group, value)}"
    elif group in tree.groups() and not group.startswith("hydra"):
        if override.is_add():
            return _value_problem(override, tree)
        message = f"not in the defaults list; one choice is added with +{group}=…"
    else:
        near = did_you_mean(group, slots)
        message = f"no such group{near}; there are {one_of(tree.slots)}"
    return line(naming(override), typed(override), message)


def _value_problem(override: Override, tree: Tree) -> str | None:
    group, value = override.key_or_group, override.value()
    options = tree.options(group)

    def wrong(message: str) -> str:
        return line(naming(override), typed(override), message)

    names = value if isinstance(value, list) else [value]
    if isinstance(value, list) and group != SEVERAL:
        return wrong(f"takes one choice; only {SEVERAL} takes a list. Accepted: {one_of(options)}")
    if not names:
        return wrong(f"an empty list; write {group}=none for no {group}")
    for name in names:
        if not isinstance(name, str) or name not in options:
            text = show(name)
            hint = did_you_mean(text, options)
            which = f": {text}" if isinstance(value, list) else ""
            more = "; plugins bring others, e.g. hydra-submitit-launcher" if _plugged(group) else ""
            return wrong(f"no such {group}{which}{hint}; accepted: {one_of(options)}{more}")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        return wrong(f"{repeated[0]} is named twice")
    if len(names) > 1 and "none" in names:
        return wrong("none stands alone; leave it out of the list")
    return None


def _plugged(group: str) -> bool:
    return group in ("hydra/launcher", "hydra/sweeper")


def _example(group: str, value: Any) -> str:
    return show(value) if isinstance(value, (str, list)) and value else "…"


def choosing(key: str, tree: Tree, choices: dict[str, Any]) -> str:
    """Where a key that the chosen files do not have does exist: '; compression=lora has it'."""
    slot, _, rest = key.partition(".")
    if slot not in tree.slots or not rest:
        return ""
    if slot == SEVERAL:
        name = rest.partition(".")[0]
        if name in choices:
            return ""
        near = nearest(name, tree.options(slot))
        return f"; {near} is not chosen, add {slot}={near}" if near else ""
    having = [
        each for each in tree.options(slot) if rest.partition(".")[0] in tree.raw(f"{slot}/{each}")
    ]
    return f"; {slot}={having[0]} has it" if having else ""
