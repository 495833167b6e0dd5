"""Which code runs: its digest, its state in git, and a copy of it for jobs that start later."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
SUBMITTED = "submitted.json"  # beside a copy of the package: the git state of what was copied
CHANGES = "submitted.diff"


def code_digest(places: Sequence[str] = (".",)) -> str:
    """SHA-256 over the package's source files below `places`."""
    files = sorted(file for place in places for file in _sources(PACKAGE / place))
    total = hashlib.sha256()
    for file in files:
        total.update(str(file.relative_to(PACKAGE)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def _sources(place: Path) -> list[Path]:
    return [place] if place.is_file() else list(place.rglob("*.py"))


def git_state() -> tuple[dict[str, Any], str]:
    """Commit and cleanliness of the code that runs, and its uncommitted changes as a patch
    (files that git does not track make it dirty, but are not in the patch)."""
    copied = PACKAGE.parent / SUBMITTED
    if copied.exists():
        return json.loads(copied.read_text()), (PACKAGE.parent / CHANGES).read_text()

    def git(*words: str) -> str:
        found = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True)
        return found.stdout if found.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD").strip()
        changes = git("diff", "HEAD", "--", ".") if commit else ""
        dirty = bool(git("status", "--porcelain", "--", ".")) if commit else None
    except OSError:  # no git on this machine
        commit, changes, dirty = "", "", None
    return {"commit": commit or None, "dirty": dirty}, changes


def snapshot(folder: Path) -> Path:
    """Copy the package and its git state below `folder`, once for each content; the place to put
    on PYTHONPATH. Other packages are not copied, nor is the config tree, which jobs do not read."""
    place = folder / code_digest()[:12]
    if not place.exists():
        temporary = folder / f".{place.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", "conf")
        shutil.copytree(PACKAGE, temporary / PACKAGE.name, ignore=ignored)
        state, changes = git_state()
        (temporary / SUBMITTED).write_text(json.dumps(state))
        (temporary / CHANGES).write_text(changes)
        try:
            temporary.rename(place)
        except OSError:  # somebody else was faster
            shutil.rmtree(temporary)
    return place
