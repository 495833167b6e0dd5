"""gossamer list: each choice on one line, from its YAML's first comment and target's source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.default_element import GroupDefault

from gossamer.cli.schema import attributes
from gossamer.cli.tree import Tree

ASIDE = 34  # columns of the names; longer ones push their own line


def listing(tree: Tree, groups: Sequence[str]) -> str:
    """The text of `gossamer list`: a heading for each group, a line for each choice."""
    blocks = []
    for plural in groups:
        group = plural.removesuffix("s")
        lines = [f"{plural} ({group}=…)"]
        for option in tree.options(group):
            path = f"{group}/{option}"
            about, notes = first_comment(tree, path), ", ".join(_notes(tree, path))
            text = f"  {option:<{ASIDE - 4}}  {about}" + (f" [{notes}]" if notes else "")
            lines.append(text.rstrip())
        if len(lines) == 1:
            lines.append("  none yet")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def first_comment(tree: Tree, path: str) -> str:
    """The first line that says what a choice is; its package header is not one."""
    file = tree.file(path)
    if file is None:
        return ""
    for text in file.read_text(encoding="utf-8").splitlines():
        if not text.startswith("#"):
            break
        comment = text.lstrip("# ").rstrip()
        if comment and not comment.startswith("@package"):
            return comment
    return ""


def _notes(tree: Tree, path: str) -> list[str]:
    """What goes with what: data kinds, starts, properties, and the choices it makes elsewhere."""
    notes = []
    known = _attributes(tree, path)
    if kinds := known.get("accepts"):
        notes.append("takes " + " or ".join(sorted(kinds)))
    if isinstance(known.get("kind"), str):
        notes.append(f"is {known['kind']}")
    if isinstance(known.get("start"), str) and path.startswith("compression/"):
        notes.append(f"starts from {known['start']} weights")
    for verb in ("consumes", "produces", "keeps"):
        if properties := known.get(verb):
            notes.append(f"{verb} {' and '.join(sorted(properties))}")
    loaded = tree.repository.load_config(path)
    defaults = (loaded.defaults_list or []) if loaded is not None else []
    sets = {
        str(default.group).lstrip("/"): default.value
        for default in defaults
        if isinstance(default, GroupDefault) and default.override
    }
    if path.startswith("dataset/"):
        sets.setdefault("task", tree.defaults.get("task"))
    for group, value in sets.items():
        chosen = f"[{','.join(value)}]" if isinstance(value, list) else value
        notes.append(f"{group}={chosen}")
    return notes


def _attributes(tree: Tree, path: str) -> dict[str, Any]:
    target = tree.raw(path).get("_target_")
    return attributes(target) if isinstance(target, str) else {}
