"""What a search may vary: a key with choices, or with a range of numbers, asked for trial by trial.

A value is kept as the text that follows `key=` on a command line: what a job runs is what its
command says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import Trial

DIGITS = 6  # of a drawn number; the rest changes no result and nobody wants to type it


@dataclass(frozen=True)
class Choices:
    """A key with values to choose from; with one of them, it is fixed and nothing is asked."""

    key: str
    values: tuple[str, ...]

    @property
    def fixed(self) -> bool:
        return len(self.values) == 1

    @property
    def corners(self) -> Sequence[str]:
        return self.values

    @property
    def listed(self) -> Sequence[str]:
        """Every value."""
        return self.values

    def suggest(self, trial: Trial) -> str:
        return self.values[0] if self.fixed else trial.suggest_categorical(self.key, self.values)

    def override(self, value: str) -> str:
        return f"{self.key}={value}" if value or not self.key.startswith("~") else self.key


@dataclass(frozen=True)
class Numbers:
    """A key with the numbers from `low` to `high`, both included; whole ones if both are int."""

    key: str
    low: float
    high: float
    step: float | None = None  # None: every number between; 1 for whole ones
    log: bool = False
    fixed = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def corners(self) -> Sequence[str]:
        """The ends; and one number between, for a key may take 1 and 10 but not 4.3."""
        if self.whole:
            return [self._text(self.low), self._text(self.high)]
        between = self.low + (self.step or 0.367 * (self.high - self.low))
        return [self._text(number) for number in (self.low, between, self.high)]

    @property
    def listed(self) -> Sequence[float] | None:
        """Every value; None where there is no end of them."""
        if self.step is None:
            return None
        count = round((self.high - self.low) / self.step) + 1
        return [self.low + place * self.step for place in range(count)]

    def suggest(self, trial: Trial) -> str:
        if self.whole:
            step = 1 if self.log else int(self.step or 1)
            number = trial.suggest_int(
                self.key, int(self.low), int(self.high), step=step, log=self.log
            )
            return str(number)
        return self._text(
            trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        )

    def override(self, value: str) -> str:
        return f"{self.key}={value}"

    def _text(self, number: float) -> str:
        if self.whole:
            return str(number)
        short = f"{number:.{DIGITS}g}"
        return short if self.low <= float(short) <= self.high else repr(number)


Parameter = Choices | Numbers
