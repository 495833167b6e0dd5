"""Quality over seeds, and what it differs by: the figures of `gossamer compare`, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gossamer.records.figures import figure
from gossamer.records.report.groups import Group


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and half the width of its 95% interval; None: one seed has none. `p`:
    of the paired t test, for a difference; None where there is no spread to hold it against."""

    mean: float
    half: float | None
    n: int
    p: float | None = None

    def text(self) -> str:
        """0.7923 ± 0.0148 (5 seeds)"""
        return f"{self.mean:.4f}{self._spread()} ({self.n} seed{'s' * (self.n != 1)})"

    def change(self) -> str:
        """+0.0020 ± 0.0148, with a true minus sign"""
        return f"{self.mean:+.4f}".replace("-", "−") + self._spread()

    def _spread(self) -> str:
        return "" if self.half is None else f" ± {self.half:.4f}"

    def shown(self) -> int:
        """1 or -1 if the whole interval of a difference is above or below 0, else 0. Seeds that
        all differ by exactly the same show nothing: their interval has no width."""
        if self.half is None or self.p is None or abs(self.mean) <= self.half:
            return 0
        return 1 if self.mean > 0 else -1


def quality(group: Group) -> Estimate | None:
    """None if a value is missing: a mean of what is left would flatter it."""
    told = figure(group.seeds, "quality", None)
    if told["value"] is None:
        return None
    return Estimate(told["value"], told["interval"], len(group.places))


def to_twin(group: Group) -> Estimate | None:
    """Compressed minus dense, seed by seed."""
    return _difference("difference", figure(group.seeds, "quality", None), len(group.places))


def between(one: Group, other: Group) -> Estimate | None:
    """`one` minus `other` at the seeds that both have."""
    theirs = {run.record.seed: run for run in other.seeds.runs}
    partners = {r: theirs[r.record.seed] for r in one.seeds.runs if r.record.seed in theirs}
    return _difference("baseline_difference", figure(one.seeds, "quality", partners), len(partners))


def _difference(name: str, told: Mapping[str, Any], n: int) -> Estimate | None:
    mean = told[name]
    return None if mean is None else Estimate(mean, told[f"{name}_interval"], n, told[f"{name}_p"])
