"""What benchmarks/sparsifiner.py says: the rows of its result, and the tables of the method's page."""

from collections.abc import Mapping, Sequence
from typing import Any


def summarise(arm: Any, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    raise SystemExit("tables come later")


def page(result: Mapping[str, Any]) -> list[str]:
    return []
