"""A real Slurm for the tests that need one: whatever sbatch here reaches."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LOCAL = Path(os.environ.get("GOSSAMER_SLURM", "/tmp/gossamer-slurm")) / "slurm.conf"


def environment() -> dict[str, str]:
    """What clients need to find the Slurm that scripts/slurm_local.sh started."""
    return {"SLURM_CONF": str(LOCAL)} if LOCAL.exists() else {}


def missing() -> str | None:
    """Why there is no Slurm to test with, or None."""
    if shutil.which("sinfo") is None:
        return "no Slurm here; as root on Debian: scripts/slurm_local.sh start"
    try:
        found = subprocess.run(
            ["sinfo", "--noheader", "--format=%t"],
            env={**os.environ, **environment()},
            capture_output=True,
            text=True,
            timeout=20,
        )
    except subprocess.TimeoutExpired:
        return "no Slurm answers; scripts/slurm_local.sh start"
    up = any(line.startswith(("idle", "mix", "alloc", "comp")) for line in found.stdout.split())
    return None if up else "no Slurm node is up; scripts/slurm_local.sh start"


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the test where there is no Slurm."""
    if reason := missing():
        pytest.skip(reason)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
