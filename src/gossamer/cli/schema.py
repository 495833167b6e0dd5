"""The signature of a `_target_`, read from its source: nothing is imported, so no torch either."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from gossamer.cli.source import UNKNOWN, Definition, Module, find, literal
from gossamer.cli.values import Accepts, read

REQUIRED = object()  # the argument has no default


@dataclass(frozen=True)
class Argument:
    """One keyword argument; `default` may be REQUIRED, or UNKNOWN if it is not a plain value."""

    name: str
    accepts: Accepts
    default: Any = REQUIRED


@dataclass(frozen=True)
class Signature:
    """The keyword arguments of one target. `open`: it takes **kwargs, so any key is possible."""

    target: str
    arguments: dict[str, Argument] = field(default_factory=dict)
    open: bool = False


def signature(target: str) -> Signature | None:
    """The signature of a class or function by dotted path, or None where its source does not tell
    (a C extension, a name that only exists at run time, a base class of another package)."""
    found = find(target)
    if not isinstance(found, Definition):
        return None
    if isinstance(found.node, ast.ClassDef):
        return _of_class(target, found)
    return _of_function(target, found.module, found.node, method=False)


def attributes(target: str) -> dict[str, Any]:
    """Plain class attributes such as accepts, kind, start; inherited ones included."""
    found = find(target)
    return _attributes(found) if isinstance(found, Definition) else {}


def _attributes(found: Definition) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if not isinstance(found.node, ast.ClassDef):
        return values
    for base in reversed(found.bases()):
        values |= _attributes(base)
    for statement in found.node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = literal(value, found.module)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                values[name] = literal(value, found.module)
    return {name: value for name, value in values.items() if value is not UNKNOWN}


def _of_class(target: str, found: Definition) -> Signature | None:
    assert isinstance(found.node, ast.ClassDef)
    for statement in found.node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _of_function(target, found.module, statement, method=True)
    if _is_dataclass(found.node):
        return Signature(target, _fields(found))
    for base in found.bases():
        inherited = _of_class(target, base)
        if inherited is None or inherited.arguments or inherited.open:
            return inherited
    return None if found.foreign_bases() else Signature(target)


def _is_dataclass(node: ast.ClassDef) -> bool:
    names = (each.func if isinstance(each, ast.Call) else each for each in node.decorator_list)
    return any(ast.unparse(name).split(".")[-1] == "dataclass" for name in names)


def _fields(found: Definition) -> dict[str, Argument]:
    assert isinstance(found.node, ast.ClassDef)
    arguments: dict[str, Argument] = {}
    for base in reversed(found.bases()):
        if isinstance(base.node, ast.ClassDef) and _is_dataclass(base.node):
            arguments |= _fields(base)
    for statement in found.node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(statement.annotation):
            continue
        default = _field_default(statement.value, found.module)
        if default is not None:
            name = statement.target.id
            accepts = read(statement.annotation, found.module.expression)
            arguments[name] = Argument(name, accepts, default[0])
    return arguments


def _field_default(value: ast.expr | None, module: Module) -> tuple[Any] | None:
    """The default as a 1-tuple; None: not an argument of the constructor."""
    if value is None:
        return (REQUIRED,)
    if isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] == "field":
        options = {each.arg: each.value for each in value.keywords}
        if "init" in options and literal(options["init"], module) is False:
            return None
        if "default" in options:
            return (literal(options["default"], module),)
        if "default_factory" in options:
            made: dict[str, Any] = {"list": [], "dict": {}, "tuple": ()}
            return (made.get(ast.unparse(options["default_factory"]), UNKNOWN),)
        return (REQUIRED,)
    return (literal(value, module),)


def _of_function(
    target: str, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef, *, method: bool
) -> Signature:
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    missing: list[Any] = [REQUIRED] * (len(positional) - len(spec.defaults))
    defaults: list[Any] = [*missing, *(literal(each, module) for each in spec.defaults)]
    pairs = list(zip(positional, defaults, strict=True))[1 if method else 0 :]
    for argument, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
        pairs.append((argument, REQUIRED if default is None else literal(default, module)))
    arguments = {
        each.arg: Argument(each.arg, read(each.annotation, module.expression), default)
        for each, default in pairs
    }
    return Signature(target, arguments, open=spec.kwarg is not None)
