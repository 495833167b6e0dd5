"""The composed tree against the signatures it will call: keys, types, targets, files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gossamer.cli.schema import REQUIRED, Argument, Signature, signature
from gossamer.cli.source import MISSING, find
from gossamer.cli.suggest import did_you_mean, nearest, one_of
from gossamer.cli.tree import SEVERAL, Tree
from gossamer.cli.values import ANY, Accepts, show
from gossamer.tasks import zero_shot, zero_shot_folder

SPECIAL = ("_target_", "_partial_")
OPTIONAL = ("logger", "export", SEVERAL)  # slots that may be left empty
NAMED = ("logger", SEVERAL)  # slots that may hold several nodes, by name
ABSENT = object()  # in the place of a value: there is none, where there must be one
Found = tuple[str, Any, str]  # (key, value, what is wrong)


@dataclass(frozen=True)
class Root:
    """The keys of conf/config.yaml itself, and what they take."""

    seed: int = 1
    twin: Literal["continued", "base"] | list[str] = "continued"
    rerun: bool = False
    name: str | None = None
    outputs: str = "outputs"


@dataclass(frozen=True)
class Sweep:
    """The keys of `sweep` in conf/config.yaml."""

    on_error: Literal["continue", "stop"] = "continue"
    retry: bool = False
    wait: bool = True
    snapshot: bool = True


@dataclass(frozen=True)
class Eval:
    """The keys of `eval` in conf/config.yaml."""

    zero_shot: list[str] = field(default_factory=list)
    folder: str | None = None
    limit: int | None = None
    batch_size: int = 16


def problems(config: dict[str, Any], tree: Tree) -> Iterator[Found]:
    """Everything that is wrong with a resolved config (without its hydra node)."""
    own = signature(f"{__name__}.Root")
    assert own is not None
    known = [*tree.root, *(slot for slot in tree.slots if slot in config)]
    for key, value in config.items():
        if key in tree.slots:
            yield from _slot(key, value)
        elif key not in tree.root:
            yield key, value, f"no such key{did_you_mean(key, known)}; there are {one_of(known)}"
        elif key in own.arguments:
            yield from _argument(key, value, own.arguments[key])
        elif key == "sweep":
            yield from listed("sweep", value, f"{__name__}.Sweep")
        elif key == "eval":
            found = list(listed("eval", value, f"{__name__}.Eval"))
            yield from found or _zero_shot(value)
    name = config.get("name")
    if isinstance(name, str) and (name in ("", ".", "..") or set(name) & set('/\\\0<>:"|?*')):
        yield "name", name, "must be usable as the name of one folder, for example my-run"
    seed = config.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool) and not 0 <= seed < 2**63:
        yield "seed", seed, "must be between 0 and 2^63 - 1"
    outputs = config.get("outputs")
    if isinstance(outputs, str) and (problem := unusable(outputs)):
        yield "outputs", outputs, problem
    for slot in tree.slots:
        if slot in tree.root or slot == "experiment" or slot in OPTIONAL:
            continue
        if slot not in config:
            choices = one_of(tree.options(slot))
            yield slot, ABSENT, f"a run needs one; choose with {slot}=…: {choices}"


def listed(path: str, value: Any, target: str) -> Iterator[Found]:
    """A mapping whose keys are the arguments of `target`, without a _target_ that a run calls."""
    known = signature(target)
    assert known is not None
    if not isinstance(value, dict):
        yield path, value, f"a mapping of {one_of(known.arguments)}"
        return
    for name, inner in value.items():
        if name not in known.arguments:
            yield f"{path}.{name}", inner, no_such_key(f"{path}.{name}", path, known)
        else:
            yield from _argument(f"{path}.{name}", inner, known.arguments[name])


def _zero_shot(node: dict[str, Any]) -> Iterator[Found]:
    """What is wrong with a well-typed `eval`. Names of the hub's tasks are left to the second pass:
    lm-eval's index of them takes seconds."""
    for key in ("limit", "batch_size"):
        if (count := node.get(key)) is not None and count < 1:
            yield f"eval.{key}", count, "at least 1"
    names = node.get("zero_shot") or []
    if not names:
        return
    if not zero_shot.installed():
        yield "eval.zero_shot", names, zero_shot.NOT_INSTALLED
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield "eval.zero_shot", names, f"{name} is named twice"
    for name in names:
        local = zero_shot_folder.TASKS
        if node.get("folder") is not None and name not in local:
            hint = f", did you mean {near}?" if (near := nearest(name, local)) else ""
            yield (
                "eval.zero_shot",
                names,
                f"a folder has no task {name}{hint}; there are {one_of(local)}",
            )


def unusable(folder: str) -> str | None:
    """Why a folder that is to be written into cannot be, or None."""
    if not folder or "\0" in folder:
        return "must name a folder"
    path = Path(folder).absolute()
    try:
        while not path.exists():
            path = path.parent
        if not path.is_dir():
            return f"{path} is not a folder"
        return None if os.access(path, os.W_OK) else f"{path} cannot be written to"
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        return f"cannot be used as a folder: {error.strerror}"


def _slot(key: str, value: Any) -> Iterator[Found]:
    if key in OPTIONAL and value in (None, {}):
        return
    if not isinstance(value, dict):
        yield key, value, f"must be a choice ({key}=…) or a mapping with a _target_"
    elif key == SEVERAL or (key in NAMED and "_target_" not in value):
        for name, inner in value.items():
            path = f"{key}.{name}"
            if isinstance(inner, dict) and "_target_" in inner:
                yield from node(path, inner)
            elif isinstance(inner, dict) and key == SEVERAL and not name.startswith("_"):
                yield path, inner, f"{name} is not chosen, so it has no keys; add {key}={name}"
            else:
                yield path, inner, "no such key: each entry must be a mapping with a _target_"
    elif "_target_" not in value:
        yield key, value, f"has no _target_; choose one with {key}=…"
    else:
        yield from node(key, value)


def node(path: str, content: dict[str, Any]) -> Iterator[Found]:
    """One mapping with a _target_: is it allowed, is it there, does it take these arguments?"""
    from gossamer.targets import allowed, packages

    target = content["_target_"]
    key = f"{path}._target_"
    if not isinstance(target, str):
        yield key, target, "must be the dotted path of a class or function"
        return
    if not allowed(target):
        yield (
            key,
            target,
            f"not on the allow-list; accepted are names in {one_of(packages())}; "
            f"to trust another package, set GOSSAMER_ALLOW_TARGETS={show(target.split('.')[0])}",
        )
        return
    if find(target) == MISSING:
        yield key, target, "there is no such class or function"
        return
    if not isinstance(content.get("_partial_", False), bool):
        yield f"{path}._partial_", content["_partial_"], "accepted: true or false"
    known = signature(target)
    for name, value in content.items():
        if name in SPECIAL:
            continue
        inner = f"{path}.{name}"
        if known is None or (known.open and name not in known.arguments):
            yield from _nested(inner, value)
        elif name not in known.arguments:
            yield inner, value, no_such_key(inner, path, known)
        else:
            yield from _argument(inner, value, known.arguments[name])
    if known is not None and not content.get("_partial_", False):
        for argument in known.arguments.values():
            if argument.default is REQUIRED and argument.name not in content:
                yield f"{path}.{argument.name}", ABSENT, f"must be given: {argument.accepts}"


def no_such_key(key: str, parent: str, known: Signature) -> str:
    keys = [f"{parent}.{name}" for name in known.arguments]
    takes = one_of(known.arguments)
    return f"no such key{did_you_mean(key, keys)}; {parent} takes {takes}"


def _argument(key: str, value: Any, argument: Argument) -> Iterator[Found]:
    accepts = argument.accepts
    if isinstance(value, dict) and "_target_" in value:
        yield from node(key, value)
    elif not accepts.admits(value):
        yield key, value, wrong_value(value, accepts)
    elif isinstance(value, str) and _is_path(key, value, accepts):
        yield from _file(key, value)
    else:
        yield from _nested(key, value)


def wrong_value(value: Any, accepts: Accepts) -> str:
    """What would be accepted instead, with the nearest literal or how to type a text."""
    words = [str(each) for member in accepts.members() for each in member.literals]
    hint = ""
    if words and isinstance(value, str) and (near := nearest(value, words)):
        hint = f", did you mean {near}?"
    texts = any(member.kind in ("str", "path") for member in accepts.members())
    if texts and isinstance(value, (int, float)):
        hint = f"; to mean the text, quote it twice: '\"{show(value)}\"'"
    if isinstance(value, float) and math.isnan(value):
        hint = "; nan is not a number to work with"
    return f"accepted: {accepts}{hint}"


def _nested(key: str, value: Any) -> Iterator[Found]:
    if isinstance(value, dict):
        if "_target_" in value:
            yield from node(key, value)
            return
        for name, inner in value.items():
            yield from _nested(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nested(f"{key}.{index}", inner)


def _is_path(key: str, value: str, accepts: Accepts) -> bool:
    """Does this text name a file or folder that must be there? What is annotated Path, keys called
    path, folder, file, and texts spelled like a local path; but not what a run makes itself."""
    leaf = key.rsplit(".", 1)[-1]
    if key.partition(".")[0] in ("outputs", "name", "logger", "export") or accepts is ANY:
        return False
    return (
        any(member.kind == "path" for member in accepts.members())
        or leaf in ("path", "folder", "file", "directory")
        or leaf.endswith(("_path", "_folder", "_file", "_dir"))
        or value.startswith(("/", "./", "../", "~/"))
    )


def _file(key: str, value: str) -> Iterator[Found]:
    try:
        path = Path(value).expanduser()
        if path.exists():
            return
        names = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a null byte
        names, path = [], Path(value)
    near = nearest(path.name, names)
    hint = f", did you mean {path.parent / near}?" if near else ""
    yield key, value, f"no such file or folder{hint}"
