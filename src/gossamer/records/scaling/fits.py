"""The laws of one series: parameters with intervals, how well each fits, and what that says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gossamer.records.scaling.laws import FLOOR, LAWS, POWER, Array, Curves, Law, fit
from gossamer.records.scaling.resampling import RESAMPLES, Sample, bounds, kind, resampled
from gossamer.records.scaling.series import Series

FEWEST = min(law.least for law in LAWS)  # budgets
APART = 2.0  # AICc; laws that are nearer to the best one are not told from it
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval; None: there is none, or a float cannot hold it."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Fit:
    law: Law
    parameters: dict[str, Estimate]
    r2: float | None  # share of the gaps' variance; None: the gaps are all the same
    aicc: float | None  # None: too few runs for it
    left_out: float  # root mean square error at each budget but the least, told from the others
    curve: Curves  # R = 1
    draws: Curves | None  # the same fitted to resamples
    freedom: int

    def at(self, t: Sequence[float]) -> list[Estimate]:
        """The mean gap at each budget t."""
        values = self.curve.at(np.asarray(t, float))[0]
        if self.draws is None:
            return [Estimate(float(value)) for value in values]
        low, high = bounds(self.draws.at(np.asarray(t, float)), self.freedom)
        return [_estimate(*three) for three in zip(values, low, high, strict=True)]


@dataclass(frozen=True)
class Fitted:
    series: Series
    fits: list[Fit]
    left: dict[str, str]  # a law that is not fitted, and why
    preferred: str | None
    verdict: list[str] = field(default_factory=list)  # sentences
    drawn: str = "budget"  # what the bootstrap draws; see resampling.py


def fitted(series: Series, resamples: int = RESAMPLES) -> Fitted:
    """All laws that the series has budgets enough for; none if it has fewer than FEWEST."""
    sample = sample_of(series)
    fits, left = [], {}
    for law in LAWS:
        if (count := len(sample.gaps)) < law.least:
            left[law.name] = (
                f"{count} budgets cannot tell {len(law.parameters)} parameters from chance: "
                f"it takes {law.least}"
            )
            continue
        found = _fit(law, sample, resamples)
        if np.isneginf(found.curve.a[0]) and found.curve.c[0] == 0:
            left[law.name] = "the gaps are not above 0: no a > 0 fits"
        else:
            fits.append(found)
    preferred, verdict = _verdict(fits, sample)
    return Fitted(series, fits, left, preferred, verdict, kind(sample))


def sample_of(series: Series) -> Sample:
    points = series.budgets
    return Sample(
        np.array([float(x) for x in points]),
        [np.array([point.gap for point in at]) for at in points.values()],
        [tuple(point.seed for point in at) for at in points.values()],
    )


def _fit(law: Law, sample: Sample, resamples: int) -> Fit:
    curve = fit(law, sample.budgets, sample.means, sample.weights)
    values = curve.at(sample.budgets)[0]
    every = np.concatenate(sample.gaps)
    missed = sum(
        float(((gaps - value) ** 2).sum()) for gaps, value in zip(sample.gaps, values, strict=True)
    )
    spread = float(((every - every.mean()) ** 2).sum())
    drawn = resampled(sample, law, resamples)
    draws = fit(law, sample.budgets, drawn[0], sample.weights) if drawn else None
    freedom = drawn[1] if drawn else 0
    parameters = {
        name: _estimate(curve.parameter(name)[0], *bounds(draws.parameter(name), freedom))
        if draws
        else _estimate(curve.parameter(name)[0])
        for name in law.parameters
    }
    r2 = 1 - missed / spread if spread > 0 else None
    return Fit(
        law, parameters, r2, _aicc(missed, len(every), len(law.parameters), every),
        _left_out(law, sample), curve, draws, freedom,
    )  # fmt: skip


def _aicc(missed: float, runs: int, parameters: int, every: Array) -> float | None:
    """Akaike's criterion for few data, of normal errors of one spread, which is a parameter too."""
    k = parameters + 1
    if runs - k - 1 < 1:
        return None
    least = runs * (1e-12 * float(np.abs(every).max() or 1.0)) ** 2  # rounding alone
    return runs * math.log(max(missed, least) / runs) + 2 * k + 2 * k * (k + 1) / (runs - k - 1)


def _left_out(law: Law, sample: Sample) -> float:
    """Laws are read towards larger budgets; leaving out the least one would be no test of that."""
    errors = []
    for place, gaps in list(enumerate(sample.gaps))[1:]:
        rest = sample.without(place)
        curve = fit(law, rest.budgets, rest.means, rest.weights)
        errors.append(curve.at(sample.budgets[[place]])[0, 0] - gaps.mean())
    return float(np.sqrt(np.mean(np.square(errors))))


def _verdict(fits: Sequence[Fit], sample: Sample) -> tuple[str | None, list[str]]:
    """The law that is preferred, if any, and what may be said."""
    ranked = sorted((f.aicc, f.law.name) for f in fits if f.aicc is not None)
    told, preferred = [], None
    if fits and len(ranked) < len(fits):
        told.append(
            f"none is preferred: AICc needs more than {sample.runs} runs; the error at a left-out "
            "budget compares laws, without an interval"
        )
    elif len(ranked) > 1:
        best = ranked[0]
        near = [name for aicc, name in ranked if aicc - best[0] < APART]
        if len(near) > 1:
            told.append(
                f"{' and '.join(near)} cannot be told apart (AICc within {APART:g}): budgets "
                "further apart, or more seeds, could"
            )
        else:
            preferred = best[1]
            told.append(
                f"{preferred} is preferred: the next, {ranked[1][1]}, has "
                f"{ranked[1][0] - best[0]:.1f} more AICc"
            )
    named = {fit.law: fit.parameters for fit in fits}
    if FLOOR in named and (c := named[FLOOR]["c"]).low is not None:
        told.append(
            f"no floor is seen: the interval of c reaches 0 and ends at {c.high:.4g}"
            if c.low <= 0
            else "a floor is seen: the interval of c is above 0, if the law is one"
        )
    if POWER in named and (b := named[POWER]["b"]).low is not None and b.low <= 0:
        told.append("a gap that does not shrink is not excluded: the interval of b reaches 0")
    if steep := [f.law.name for f in fits if f.curve.b[0] >= 0.99 * f.curve.steepest]:
        told.append(
            f"b of {' and '.join(steep)} has no upper end: only the smallest budget is above the "
            "others"
        )
    return preferred, told


def _estimate(*values: float) -> Estimate:
    return Estimate(*(float(value) if math.isfinite(value) else None for value in values))
