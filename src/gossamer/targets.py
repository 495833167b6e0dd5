"""What a `_target_` in a configuration or a manifest may name, and building from such nodes.

A dotted path in a text file is code that somebody else chose. It may only name classes and
functions that were *defined* in a package on the allow-list: `gossamer.records.record.os.system`
begins with an allowed package and is refused all the same, because `os` is not one.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any

from gossamer.errors import ConfigError

PACKAGES = ("gossamer", "torch", "pytorch_lightning", "torchmetrics", "timm", "transformers")
# Inside allowed packages, but they fetch, compile or unpickle what a text file tells them to.
REFUSED = (
    "torch.hub",
    "torch.load",
    "torch.serialization",
    "torch.utils.cpp_extension",
    "torch.jit",
)


def packages() -> tuple[str, ...]:
    """The allowed package prefixes: ours and those named in GOSSAMER_ALLOW_TARGETS (by commas)."""
    extra = os.environ.get("GOSSAMER_ALLOW_TARGETS", "")
    return PACKAGES + tuple(name.strip() for name in extra.split(",") if name.strip())


def allowed(path: str) -> bool:
    """Whether a dotted path begins with an allowed package. Imports nothing."""
    return isinstance(path, str) and _within(path, packages()) and not _within(path, REFUSED)


def locate(path: str, key: str = "_target_") -> Any:
    """The class or function at a dotted path; `key` is where the path stood, for the error.

    Raises ConfigError if the path is not allowed, does not exist, leaves the allowed packages on
    the way, or names something that cannot be called."""
    if not allowed(path):
        raise ConfigError(
            f"{key}: {path!r} is not on the allow-list ({', '.join(packages())}); "
            f"to trust its package, set GOSSAMER_ALLOW_TARGETS={str(path).split('.')[0]}"
        )
    module, names = _import(path, key)
    found: Any = module
    for name in names:
        if not hasattr(found, name):
            raise ConfigError(
                f"{key}: {path!r} does not exist: {_title(found)} has no {name!r}"
                + _nearest(name, dir(found))
            )
        found = getattr(found, name)
        home = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", "")
        if not allowed(f"{home or ''}.{name}"):
            raise ConfigError(
                f"{key}: {path!r} leads to {home or '?'}.{name}, which is not on the allow-list"
            )
    if isinstance(found, ModuleType) or not callable(found):
        raise ConfigError(f"{key}: {path!r} is not a class or a function")
    return found


def build(node: Mapping[str, Any], key: str = "") -> Any:
    """Call the `_target_` of a plain nested dict with its other entries, innermost first.

    A nested mapping with a `_target_` is built as well; `_partial_: true` gives a functools.partial
    instead of calling. Everything else is passed on unchanged. `key` is the node's own place in the
    configuration and begins every error: a ConfigError for a missing or refused target and for
    arguments that the target does not take or misses."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(f"{key or 'node'}: expected a mapping with a _target_, got {node!r:.80}")
    target = locate(node["_target_"], _join(key, "_target_"))
    arguments = {
        name: _value(value, _join(key, name))
        for name, value in node.items()
        if name not in ("_target_", "_partial_")
    }
    problems = _mismatch(target, arguments, key, partially=bool(node.get("_partial_", False)))
    if problems:
        raise ConfigError(*problems)
    if node.get("_partial_", False):
        return partial(target, **arguments)
    return target(**arguments)


def _value(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value, key)
        return {name: _value(item, _join(key, str(name))) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item, f"{key}[{place}]") for place, item in enumerate(value)]
    return value


def _mismatch(target: Any, arguments: dict[str, Any], key: str, partially: bool) -> list[str]:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # written in C without a signature: the call itself will tell
        return []
    named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in named]
    problems = []
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        problems += [
            f"{_join(key, name)}: {_title(target)} takes no such argument; "
            f"it takes {', '.join(names) or 'none'}" + _nearest(name, names)
            for name in arguments
            if name not in names
        ]
    if not partially:
        problems += [
            f"{_join(key, p.name)}: {_title(target)} needs this argument"
            for p in named
            if p.default is p.empty and p.name not in arguments
        ]
    return problems


def _import(path: str, key: str) -> tuple[ModuleType, list[str]]:
    words = path.split(".")
    if not all(word.isidentifier() for word in words):
        raise ConfigError(f"{key}: {path!r} is not a dotted path of names")
    for cut in range(len(words), 0, -1):
        name = ".".join(words[:cut])
        try:
            return importlib.import_module(name), words[cut:]
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
                raise ConfigError(f"{key}: {path!r} needs the package {error.name!r}") from error
    raise ConfigError(f"{key}: {path!r} does not exist: there is no package {words[0]!r}")


def _within(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(prefix + ".") for prefix in prefixes)


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _title(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return thing.__name__
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', thing)}"


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
