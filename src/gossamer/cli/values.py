"""What a constructor's annotation accepts, read from its syntax: int, Literal[...], X | None, …

Nothing is imported or evaluated: an annotation that is not understood accepts anything, and is
left to the constructor itself.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SEQUENCES = {
    "list", "List", "tuple", "Tuple", "Sequence", "Iterable", "Collection",
    "set", "Set", "frozenset", "FrozenSet", "AbstractSet",
}  # fmt: skip
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
SCALARS = {"int", "float", "bool", "str"}
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "path": "a path",
    "none": "null",
    "any": "anything",
}

Lookup = Callable[[str], ast.expr | None]  # the expression that a module gives a name


@dataclass(frozen=True)
class Accepts:
    """`kind` is a key of WORDS, or literal, list, tuple (of fixed length), mapping, union."""

    kind: str
    items: tuple[
        Accepts, ...
    ] = ()  # of a union, a tuple; the element of a list, the value of a mapping
    literals: tuple[Any, ...] = ()

    def admits(self, value: Any) -> bool:
        """Is `value` (plain data, as it came from YAML or the command line) accepted?"""
        match self.kind:
            case "any":
                return True
            case "none":
                return value is None
            case "bool":
                return isinstance(value, bool)
            case "int":
                return isinstance(value, int) and not isinstance(value, bool)
            case "float":
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                return number and not math.isnan(value)
            case "str":
                return isinstance(value, str)
            case "path":
                return isinstance(value, str) and value != ""
            case "literal":
                return any(value == each and type(value) is type(each) for each in self.literals)
            case "union":
                return any(item.admits(value) for item in self.items)
            case "list":
                return isinstance(value, list) and all(self.items[0].admits(v) for v in value)
            case "tuple":
                return (
                    isinstance(value, list)
                    and len(value) == len(self.items)
                    and all(item.admits(v) for item, v in zip(self.items, value, strict=True))
                )
            case "mapping":
                return isinstance(value, dict) and all(
                    self.items[0].admits(v) for v in value.values()
                )
        raise AssertionError(self.kind)

    def __str__(self) -> str:
        match self.kind:
            case "literal":
                return " or ".join(show(each) for each in self.literals)
            case "union":
                return " or ".join(str(item) for item in self.items)
            case "list":
                element = self.items[0]
                if element.kind == "any":
                    return "a list"
                return f"a list [{element}, …]"
            case "tuple":
                return "a list [" + ", ".join(str(item) for item in self.items) + "]"
            case "mapping":
                return "a mapping {name: " + str(self.items[0]) + "}"
        return WORDS[self.kind]

    def members(self) -> tuple[Accepts, ...]:
        """The alternatives: those of a union, or itself."""
        return self.items if self.kind == "union" else (self,)


ANY = Accepts("any")
NONE = Accepts("none")


def show(value: Any) -> str:
    """A value as one would type it, on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ",".join(show(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{show(k)}:{show(v)}" for k, v in value.items()) + "}"
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "backslashreplace").decode()
        for each in str(value)
    )


def union(items: list[Accepts]) -> Accepts:
    flat = [member for item in items for member in item.members()]
    if any(item.kind == "any" for item in flat):
        return ANY
    return flat[0] if len(flat) == 1 else Accepts("union", tuple(dict.fromkeys(flat)))


def read(
    annotation: ast.expr | None, lookup: Lookup = lambda name: None, depth: int = 8
) -> Accepts:
    """The Accepts of an annotation; `lookup` finds a module's aliases, `Weights = Literal[…]`."""
    if annotation is None or depth == 0:
        return ANY
    match annotation:
        case ast.Constant(value=None):
            return NONE
        case ast.Constant(value=str(text)):
            try:
                return read(ast.parse(text, mode="eval").body, lookup, depth - 1)
            except SyntaxError:
                return ANY
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return union([read(left, lookup, depth), read(right, lookup, depth)])
        case ast.Subscript(value=head, slice=inner):
            return _subscript(_last(head), _elements(inner), lookup, depth)
        case ast.Name() | ast.Attribute():
            return _name(_last(annotation), lookup, depth)
    return ANY


def _name(name: str, lookup: Lookup, depth: int) -> Accepts:
    if name in SCALARS:
        return Accepts(name)
    if name in SEQUENCES:
        return Accepts("list", (ANY,))
    if name in MAPPINGS:
        return Accepts("mapping", (ANY,))
    if name in {"Path", "PathLike", "PurePath"}:
        return Accepts("path")
    if name == "None":
        return NONE
    alias = lookup(name)
    return ANY if alias is None else read(alias, lookup, depth - 1)


def _subscript(head: str, inner: list[ast.expr], lookup: Lookup, depth: int) -> Accepts:
    def item(node: ast.expr) -> Accepts:
        return read(node, lookup, depth - 1)

    if head == "Literal":
        constants = [node.value for node in inner if isinstance(node, ast.Constant)]
        return (
            Accepts("literal", literals=tuple(constants)) if len(constants) == len(inner) else ANY
        )
    if head == "Optional":
        return union([item(inner[0]), NONE])
    if head == "Union":
        return union([item(node) for node in inner])
    if head in {"Annotated", "Final", "InitVar"}:
        return item(inner[0])
    if head in {"tuple", "Tuple"} and not _variadic(inner):
        return Accepts("tuple", tuple(item(node) for node in inner))
    if head in SEQUENCES:
        return Accepts("list", (item(inner[0]),))
    if head in MAPPINGS:
        return Accepts("mapping", (item(inner[-1]),))
    return ANY


def _variadic(inner: list[ast.expr]) -> bool:
    last = inner[-1]
    return isinstance(last, ast.Constant) and last.value is Ellipsis


def _elements(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _last(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
    return ""
