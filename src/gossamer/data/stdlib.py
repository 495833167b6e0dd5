"""The embedded corpus: the standard library's own source code, which every Python carries."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from pathlib import Path

from gossamer.data.documents import Documents
from gossamer.data.info import SPLITS
from gossamer.data.lm import Corpus
from gossamer.errors import DataError

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}  # of the bytes
# Not part of every build of CPython 3.11 to 3.13, not the library's own, or tables and not code.
LEFT_OUT = {
    *("test", "tests", "site-packages", "dist-packages", "__pycache__", "lib-dynload"),
    *("idlelib", "tkinter", "turtledemo", "lib2to3", "distutils", "ensurepip", "msilib", "_pyrepl"),
    *("encodings", "pydoc_data", "pathlib", "sysconfig", "__phello__"),
}
PREFIXES = ("_sysconfigdata", "sitecustomize", "usercustomize", "config-")
LONGEST = 64_000  # bytes; a longer file would be most of a held-out split
LEAST_FILES = 200


class Stdlib(Corpus):
    """Source files of the standard library, one document each, 80 / 10 / 10 percent of the bytes.

    Left out are tests, packages that some builds lack, tables, and files over 64 kB: 5.0 MB stay.
    Files differ slightly between Python versions, which `fingerprint()` shows.

    Args:
        path: a standard library's folder; None: the running interpreter's.
        context, stride, batch_size, workers, limit, held_out, cache: as in `Corpus`.
    """

    name = "stdlib"

    def __init__(
        self,
        path: str | None = None,
        context: int = 256,
        stride: int | None = None,
        batch_size: int = 16,
        workers: int = 0,
        limit: int | None = None,
        held_out: int | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__(context, stride, batch_size, workers, limit, held_out, cache)
        self.path = path

    def read(self) -> tuple[dict[str, Documents], list[str]]:
        folder = Path(self.path or sysconfig.get_paths()["stdlib"])
        texts = sources(folder)
        if len(texts) < LEAST_FILES:
            raise DataError(
                f"stdlib: {folder} has {len(texts)} source files, fewer than {LEAST_FILES}; use a "
                f"Python that carries its sources (python.org, uv, pyenv), or dataset.path= "
                f"another standard library's folder"
            )
        splits = assign_files({path: len(text.encode()) for path, text in texts.items()})
        return {
            split: Documents.of([text for path, text in texts.items() if splits[path] == split])
            for split in SPLITS
        }, [f"{len(texts)} source files of {folder.name}"]


def sources(folder: Path) -> dict[str, str]:
    """Path inside `folder` -> the file's text, in the order of the paths."""
    files = {}
    for file in folder.rglob("*.py"):
        inside = file.relative_to(folder)
        out = LEFT_OUT & set(inside.parts) or inside.parts[0].startswith(PREFIXES)
        if not out and 0 < file.stat().st_size <= LONGEST:
            files[inside.as_posix()] = file
    return {path: files[path].read_text(encoding="utf-8") for path in sorted(files)}


def assign_files(sizes: Mapping[str, int]) -> dict[str, str]:
    """File -> split: the largest first, each to the split that has least of its share, so that
    every split gets files of all sizes."""
    filled = dict.fromkeys(SHARES, 0)
    assigned = {}
    for path in sorted(sizes, key=lambda path: (-sizes[path], path)):
        split = min(SPLITS, key=lambda split: filled[split] / SHARES[split])
        assigned[path] = split
        filled[split] += sizes[path]
    return assigned
