"""Every choice in conf/ composes, matches the signature of its target, and says how to use it.

python scripts/check_configs.py          (part of `make check`; reads source, imports no torch)
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gossamer.cli import COMMANDS
from gossamer.cli.check import check
from gossamer.cli.schema import REQUIRED, Signature, signature
from gossamer.cli.source import UNKNOWN
from gossamer.cli.tree import Tree, conf_dir

PLACEHOLDERS = ("FOLDER", "RUN")  # in example commands: an existing folder
SPECIAL = ("_target_", "_partial_", "defaults")


def problems(directory: Path) -> Iterator[str]:
    """Everything that is wrong with the config tree in `directory`, one line each."""
    tree = Tree(str(directory))
    for slot in tree.slots:
        for option in tree.options(slot):
            yield from (
                f"{slot}={option} does not compose: {line}"
                for line in check([f"{slot}={option}"], tree)
            )
    for file in sorted(directory.rglob("*.yaml")):
        name = file.relative_to(directory)
        yield from (f"{name}: {line}" for line in [*comment(file, tree), *keys(file, directory)])


def comment(file: Path, tree: Tree) -> Iterator[str]:
    """The head of a file: what it is, and a command that would run."""
    head = []
    for text in file.read_text(encoding="utf-8").splitlines():
        if not text.startswith("#"):
            break
        head.append(text.lstrip("#").strip())
    about = [text for text in head if text and not text.startswith(("@package", "gossamer "))]
    commands = [text for text in head if text.startswith("gossamer ")]
    if not about:
        yield "does not begin with a comment that says what it is"
    if not commands:
        yield "its first comment has no command that uses it (a line `gossamer …`)"
    with tempfile.TemporaryDirectory() as folder:
        for command in commands:
            words = shlex.split(command)[1:]
            for placeholder in PLACEHOLDERS:
                words = [word.replace(f"={placeholder}", f"={folder}") for word in words]
            if words[0] in (*COMMANDS, "--help"):
                continue
            yield from (f"`{command}`: {line}" for line in check(words, tree))


def keys(file: Path, directory: Path) -> Iterator[str]:
    """A choice is its target plus exactly the target's arguments; the main one has the defaults."""
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    target = content.get("_target_")
    if target is None:
        return
    known = signature(target)
    if known is None:
        yield f"{target}: its arguments cannot be read from source"
        return
    given = {key: value for key, value in content.items() if key not in SPECIAL}
    for name in known.arguments.keys() - given.keys():
        yield f"{name}: {target} takes it, the file does not list it"
    for name in given.keys() - known.arguments.keys():
        yield f"{name}: the file lists it, {target} does not take it"
    if is_main(file, directory, target):
        yield from defaults(known, given)


def is_main(file: Path, directory: Path, target: str) -> bool:
    """Is this the choice that a target is known by? Named like it, like its module, `default`, or
    the only one there is. Variants (minilm of bert) may have other values."""
    module, _, name = target.rpartition(".")
    stem = file.stem.replace("_", "").lower()
    if stem in (name.lower(), module.rpartition(".")[2].replace("_", ""), "default"):
        return True
    group = directory / file.relative_to(directory).parts[0]
    line = f"_target_: {target}"
    return (
        sum(line in other.read_text("utf-8").splitlines() for other in group.rglob("*.yaml")) == 1
    )


def defaults(known: Signature, given: dict[str, Any]) -> Iterator[str]:
    for name, argument in known.arguments.items():
        if name not in given or argument.default is REQUIRED:
            continue
        if argument.default is UNKNOWN:
            yield f"{name}: the default is not a plain value, so the file cannot mirror it"
        elif _plain(argument.default) != given[name]:
            yield f"{name}: {given[name]!r} in the file, {argument.default!r} in the signature"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def main() -> int:
    found = list(problems(conf_dir()))
    print("\n".join(found) or f"{conf_dir()}: every choice composes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
