"""Frozen dataclasses of plain values (DataInfo, Parts) as JSON, and back with their tuples."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any

from gossamer.errors import ConfigError
from gossamer.targets import locate


def plain(value: Any, where: str) -> dict[str, Any]:
    """A frozen dataclass (DataInfo, Parts) as {"class": path, "fields": plain JSON}."""
    node = {
        "class": f"{type(value).__module__}.{type(value).__qualname__}",
        "fields": {field.name: _bare(getattr(value, field.name)) for field in fields(value)},
    }
    try:
        json.dumps(node)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"export: {where} holds more than plain values: {error}") from error
    return node


def revive(node: dict[str, Any], where: str) -> Any:
    """The dataclass that `plain` wrote; tuples and nested dataclasses come back as they were."""
    cls = locate(node["class"], where)
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise ConfigError(f"{where}: {node['class']!r} is not a dataclass")
    return _typed(cls, node["fields"])


def _bare(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _bare(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: _bare(item) for name, item in value.items()}
    return [_bare(item) for item in value] if isinstance(value, list | tuple) else value


def _typed(hint: Any, value: Any) -> Any:
    """`value` as the annotation says: the tuples and dataclasses that JSON flattened."""
    if is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _typed(hints[name], item) for name, item in value.items()})
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (UnionType, typing.Union):
        some = next(option for option in inner if option is not type(None))
        return None if value is None else _typed(some, value)
    if origin is tuple:
        return tuple(_zip_hints(inner, value))
    if origin is dict:
        return {name: _typed(inner[1], item) for name, item in value.items()}
    return [_typed(inner[0], item) for item in value] if origin is list else value


def _zip_hints(hints: tuple[Any, ...], values: list[Any]) -> Iterator[Any]:
    repeated = len(hints) == 2 and hints[1] is Ellipsis
    for place, value in enumerate(values):
        yield _typed(hints[0] if repeated else hints[place], value)
