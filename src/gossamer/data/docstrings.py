"""The embedded data set: which standard-library package does a docstring come from?

Real English prose by many authors that every Python carries with it, so that the default run and
the tests work without a download. The sources are parsed, never imported.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from gossamer.data.info import SPLITS
from gossamer.data.splits import Split
from gossamer.data.text import TextClassification
from gossamer.errors import DataError

# Packages with several documented modules that every build of CPython 3.11 to 3.13 carries; tkinter
# and idlelib have more docstrings, but Linux distributions leave them out.
PACKAGES = (
    "asyncio",
    "email",
    "http",
    "importlib",
    "logging",
    "multiprocessing",
    "unittest",
    "urllib",
    "wsgiref",
    "xml",
)
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
LEAST_WORDS = 3
LEAST_ROWS = 2000
MASK = "_"
# the names themselves, inside longer words too (HTTPServer): what is left must be understood
NAMES = re.compile("|".join(sorted((*PACKAGES, "wsgi"), key=len, reverse=True)), re.IGNORECASE)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Docstrings(TextClassification):
    """Docstrings of ten standard-library packages, with the packages' names masked.

    All docstrings of a module go to the same split, and a text occurs in one split only, so nothing
    leaks; rows differ slightly between Python versions, which `fingerprint()` shows.

    Args:
        path: a standard library's folder; None: the running interpreter's.
        max_length: tokens per row; half of the docstrings have 21 or fewer, a quarter more than 48.
        batch_size, workers, limit: as in `TextClassification`.
    """

    def __init__(
        self,
        path: str | None = None,
        batch_size: int = 32,
        max_length: int = 48,
        workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(
            path=path,
            batch_size=batch_size,
            max_length=max_length,
            workers=workers,
            limit=limit,
        )
        self.name = "docstrings"

    def read(self) -> tuple[dict[str, Split], tuple[str, ...] | None, list[str]]:
        folder = Path(self.path or sysconfig.get_paths()["stdlib"])
        modules = unique_docstrings(folder)
        rows: dict[str, list[tuple[str, int]]] = {split: [] for split in SPLITS}
        for label, package in enumerate(PACKAGES):
            own = {path: texts for (name, path), texts in modules.items() if name == package}
            if len(own) < len(SPLITS):
                raise DataError(
                    f"docstrings: {folder / package} has {len(own)} modules with docstrings, fewer "
                    f"than the {len(SPLITS)} splits; use a Python that carries its sources "
                    f"(python.org, uv, pyenv), or dataset.path= another standard library's folder"
                )
            for path, split in assign_modules(
                {path: len(texts) for path, texts in own.items()}
            ).items():
                rows[split] += [(text, label) for text in own[path]]
        total = sum(map(len, rows.values()))
        if total < LEAST_ROWS:
            raise DataError(f"docstrings: {folder} yields {total} rows, fewer than {LEAST_ROWS}")
        splits = {
            split: Split([text for text, _ in ones], None, [label for _, label in ones])
            for split, ones in rows.items()
        }
        return splits, PACKAGES, [f"sources of {len(modules)} modules in {folder.name}"]


def module_docstrings(source: str) -> Iterator[str]:
    """The docstrings of a module, its classes and its functions, in the order of the text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of the parsed source, which is not ours
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)):
        text = ast.get_docstring(node)
        if text:
            yield text


def unique_docstrings(folder: Path) -> dict[tuple[str, str], list[str]]:
    """(package, module path) -> masked docstrings, each text once in all.

    A text that two packages share has no single answer and is left out; of one that recurs within a
    package the first is kept. Two texts are the same if their letters and digits are.
    """
    texts: dict[tuple[str, str], list[str]] = {}
    owners: dict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for file in sorted((folder / package).rglob("*.py")):
            inside = file.relative_to(folder)
            if {"test", "tests"} & set(inside.parts):
                continue
            masked = [
                " ".join(NAMES.sub(MASK, text).split())
                for text in module_docstrings(file.read_text(encoding="utf-8"))
            ]
            texts[package, inside.as_posix()] = masked
            for text in masked:
                owners[_letters(text)].add(package)
    seen: set[str] = set()
    unique = {}
    for (package, path), masked in texts.items():
        kept = []
        for text in masked:
            key = _letters(text)
            if len(text.split()) >= LEAST_WORDS and len(owners[key]) == 1 and key not in seen:
                seen.add(key)
                kept.append(text)
        if kept:
            unique[package, path] = kept
    return unique


def assign_modules(sizes: dict[str, int]) -> dict[str, str]:
    """Module -> split: the largest first, each to the split that lacks most of its share of the
    rows; every split gets a module."""
    total = sum(sizes.values())
    lacking = {split: share * total for split, share in SHARES.items()}
    assigned: dict[str, str] = {}
    for place, path in enumerate(sorted(sizes, key=lambda path: (-sizes[path], path))):
        empty = [split for split in SPLITS if split not in assigned.values()]
        must = len(sizes) - place <= len(empty)  # as many modules left as splits without one
        split = max(empty if must else SPLITS, key=lambda split: lacking[split])
        assigned[path] = split
        lacking[split] -= sizes[path]
    return assigned


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower()).strip()
