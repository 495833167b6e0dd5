"""A small config tree (tree/) whose targets are only read (fakes.py)."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TREE = HERE / "tree"


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """fakes.py can be found and may be named by a _target_."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("GOSSAMER_ALLOW_TARGETS", "fakes")


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The problems of a command line over the small tree."""
    from gossamer.cli.check import check

    monkeypatch.chdir(tmp_path)
    return lambda *argv: check(["--config-path", str(TREE), *argv])


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str
    cpu: float  # seconds, user and system


@pytest.fixture
def gossamer(tmp_path: Path) -> Callable[..., Ended]:
    """The command in a process of its own, in an empty folder; a run only notes its config there
    (standin/). `tree=None`: the shipped config tree."""

    def call(*argv: str, tree: Path | None = TREE, flags: tuple[str, ...] = ()) -> Ended:
        place = [] if tree is None else ["--config-path", str(tree)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(
            [sys.executable, *flags, "-m", "gossamer.cli", *argv, *place],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return Ended(ended.returncode, ended.stdout, ended.stderr, cpu)

    return call


def environment() -> dict[str, str]:
    """Bytecode is kept, as for a user: compiling Hydra anew takes longer than all of its work."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONDONTWRITE")}
    path = os.pathsep.join([str(HERE), str(HERE / "standin")])
    return {**kept, "PYTHONPATH": path, "GOSSAMER_ALLOW_TARGETS": "fakes"}
