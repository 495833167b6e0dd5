"""Modules as syntax trees, found by their file: what a dotted path names, without importing it."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

UNKNOWN = object()  # a value that is not written as a plain literal
OPAQUE = "opaque"  # may exist, but the source does not tell (compiled, lazy, star imports)
MISSING = "missing"  # surely does not exist
ABSTRACT = {"object", "Protocol", "Generic", "ABC"}  # bases that add no argument


@dataclass(frozen=True, eq=False)
class Module:
    """One parsed file. `names`: the statement that defines each top-level name."""

    name: str
    package: str
    names: dict[str, ast.stmt] = field(default_factory=dict)
    lazy: bool = False  # star imports or __getattr__: names beyond those listed may exist

    def resolve(self, name: str, depth: int = 8) -> Definition | ast.expr | str:
        """What `name` means here: a class or function, an expression, OPAQUE or MISSING."""
        statement = self.names.get(name)
        match statement:
            case None:
                return OPAQUE if self.lazy else MISSING
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                return Definition(self, statement)
            case ast.Assign(value=value):
                return value
            case ast.AnnAssign(value=ast.expr() as value):
                return value
            case ast.ImportFrom() if depth:
                original = next(a.name for a in statement.names if (a.asname or a.name) == name)
                module = load(self._absolute(statement))
                if isinstance(module, Module):
                    inner = module.resolve(original, depth - 1)
                    if inner != MISSING:
                        return inner
                return OPAQUE
        return OPAQUE

    def expression(self, name: str) -> ast.expr | None:
        """The expression assigned to a name, for aliases such as `Weights = Literal[…]`."""
        found = self.resolve(name)
        return found if isinstance(found, ast.expr) else None

    def _absolute(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = self.package.split(".")
        parent = parts[: len(parts) - statement.level + 1]
        return ".".join([*parent, *([statement.module] if statement.module else [])])


@dataclass(frozen=True, eq=False)
class Definition:
    """A class or function, and the module it is written in."""

    module: Module
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

    def bases(self) -> list[Definition]:
        """The base classes whose source was found."""
        return [base for base in self._bases() if isinstance(base, Definition)]

    def foreign_bases(self) -> bool:
        """Is there a base class that may bring arguments of its own, but cannot be read?"""
        return any(not isinstance(base, Definition) for base in self._bases())

    def _bases(self) -> list[Definition | ast.expr | str]:
        if not isinstance(self.node, ast.ClassDef):
            return []
        named = [ast.unparse(base).split("[")[0] for base in self.node.bases]
        plain = [name for name in named if name.split(".")[-1] not in ABSTRACT]
        return [self.module.resolve(name) for name in plain]


def find(target: str) -> Definition | str:
    """The class or function of a dotted path; OPAQUE where the source does not tell, MISSING where
    there surely is none."""
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts) or len(parts) < 2:
        return MISSING
    for cut in range(len(parts) - 1, 0, -1):
        module = load(".".join(parts[:cut]))
        if module == OPAQUE:
            return OPAQUE
        if isinstance(module, Module):
            found = module.resolve(parts[cut])
            if isinstance(found, Definition) and cut == len(parts) - 1:
                return found
            submodule = cut < len(parts) - 1 and parts[cut].islower() and found == OPAQUE
            if submodule and parts[cut] not in module.names:
                return MISSING  # a lazy package may make up classes, but not folders
            return MISSING if found == MISSING else OPAQUE
    return MISSING


@cache
def load(name: str) -> Module | str:
    """Parse a module; OPAQUE if it has no Python source, MISSING if it does not exist."""
    file = locate(name)
    if not isinstance(file, Path):
        return file
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return OPAQUE
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    module = Module(name, package, {})
    lazy = _collect(tree.body, module.names)
    return Module(name, package, module.names, lazy)


def locate(name: str) -> Path | str:
    """The source file of a module. Only the top-level package is asked of the import system, which
    finds it without running it."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return MISSING
    if spec is None:
        return MISSING
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else OPAQUE
    folders = [Path(each) for each in spec.submodule_search_locations or ()]
    for part in rest[:-1]:
        folders = [each / part for each in folders if (each / part).is_dir()]
    for folder in folders:
        for file in (folder / rest[-1] / "__init__.py", folder / f"{rest[-1]}.py"):
            if file.is_file():
                return file
    return OPAQUE if any(list(each.glob(f"{rest[-1]}.*")) for each in folders) else MISSING


def literal(node: ast.expr, module: Module, depth: int = 4) -> Any:
    """The value of a literal, of frozenset({…}) or tuple(…) of one, or of a module's constant."""
    match node:
        case ast.Name(id=name) if depth:
            inner = module.expression(name)
            return UNKNOWN if inner is None else literal(inner, module, depth - 1)
        case ast.Call(func=ast.Name(id="frozenset" | "set" | "tuple"), args=[]):
            return ()
        case ast.Call(func=ast.Name(id="frozenset" | "set" | "tuple"), args=[inner], keywords=[]):
            return literal(inner, module, depth)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return UNKNOWN


def _collect(body: list[ast.stmt], names: dict[str, ast.stmt]) -> bool:
    """Fill `names`, also from under `if` and `try`; tell whether the module may have more."""
    lazy = False
    for statement in body:
        match statement:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                names[name] = statement
                lazy |= name == "__getattr__"
            case ast.Assign(targets=targets):
                names |= {each.id: statement for each in targets if isinstance(each, ast.Name)}
                lazy |= any(
                    isinstance(each, ast.Subscript) for each in targets
                )  # sys.modules[…] = …
            case ast.AnnAssign(target=ast.Name(id=name)):
                names[name] = statement
            case ast.ImportFrom(names=imported):
                names |= {each.asname or each.name: statement for each in imported}
                lazy |= any(each.name == "*" for each in imported)
            case ast.Import(names=imported):
                names |= {each.asname or each.name.split(".")[0]: statement for each in imported}
            case ast.If() | ast.Try() | ast.With() | ast.For():
                for block in ("body", "orelse", "finalbody"):
                    lazy |= _collect(getattr(statement, block, []), names)
                for handler in getattr(statement, "handlers", []):
                    lazy |= _collect(handler.body, names)
    return lazy
