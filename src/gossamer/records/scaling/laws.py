"""Laws of how a gap falls with the budget t, fitted by least squares.

    power             a·t^−b
    power + floor     a·t^−b + c
    exponential       a·e^(−b·t)
    logarithmic       a − b·ln t                  a, b and c are never below 0

The first three are c + A·e^(−βz), z = ln(t/t_min) for powers and (t − t_min)/(t_max − t_min) for
the exponential. At a given β the best A and c are those of a linear problem (variable projection:
Golub and Pereyra, 1973), so a fit is a search along β alone: a grid over all that the budgets can
tell apart, then golden sections. No start value is guessed, and thousands of resamples are fitted
at once. The fit is of the gap itself, not of its logarithm: gaps at or below 0 are data too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
GRID, SECTIONS = 64, 40
# The grid's ends, as |ln| of a fall: over all budgets, and from the least to the next.
FLAT, STEEP = 1e-4, 20.0
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Law:
    name: str
    formula: str  # of the budget t
    parameters: tuple[str, ...]

    @property
    def least(self) -> int:
        """Different budgets without which it is not fitted: a curve with as many parameters as
        there are budgets goes through all of them, whatever they are."""
        return len(self.parameters) + 1


POWER = Law("power", "a·t^−b", ("a", "b"))
FLOOR = Law("power + floor", "a·t^−b + c", ("a", "b", "c"))
EXPONENTIAL = Law("exponential", "a·e^(−b·t)", ("a", "b"))
LOGARITHMIC = Law("logarithmic", "a − b·ln t", ("a", "b"))
LAWS = (POWER, FLOOR, EXPONENTIAL, LOGARITHMIC)


@dataclass(frozen=True)
class Curves:
    """R fits of one law. Of the decaying laws, `a` is kept as its logarithm (−inf: a = 0): a gap
    extrapolated to one token may exceed any float."""

    law: Law
    a: Array  # (R,)
    b: Array  # (R,)
    c: Array  # (R,), 0 without a floor
    steepest: float  # largest b that these budgets can tell from a larger one

    def at(self, t: Array) -> Array:
        """The gaps at budgets t (X,): (R, X)."""
        a, b, c = self.a[:, None], self.b[:, None], self.c[:, None]
        if self.law is LOGARITHMIC:
            return a - b * np.log(t)
        return np.exp(a - b * (t if self.law is EXPONENTIAL else np.log(t))) + c

    def parameter(self, name: str) -> Array:
        """(R,); infinite where a float cannot hold it."""
        if name == "a" and self.law is not LOGARITHMIC:
            with np.errstate(over="ignore"):
                return np.exp(self.a)
        return {"a": self.a, "b": self.b, "c": self.c}[name]


def fit(law: Law, t: Array, gaps: Array, weights: Array) -> Curves:
    """The least-squares fits to R sets of mean gaps (R, K) at K different budgets t (K,), each the
    mean of `weights` (K,) runs. K must be at least 2, and t positive."""
    if law is LOGARITHMIC:
        z = np.log(t)
        total = weights.sum()
        middle, mean = (weights * z).sum() / total, gaps @ weights / total
        slope = (gaps - mean[:, None]) @ (weights * (z - middle)) / (weights @ (z - middle) ** 2)
        b = np.maximum(-slope, 0.0)
        return Curves(law, mean + b * middle, b, np.zeros_like(b), np.inf)
    low, span = t.min(), np.ptp(t)
    z = (t - low) / span if law is EXPONENTIAL else np.log(t / low)
    beta, steepest = _search(z, gaps, weights, floor=law is FLOOR)
    _, height, c = _linear(np.exp(-beta[:, None] * z), gaps, weights, law is FLOOR)
    b = beta / span if law is EXPONENTIAL else beta
    with np.errstate(divide="ignore"):
        a = np.log(height) + b * (low if law is EXPONENTIAL else np.log(low))
    return Curves(law, a, b, c, steepest / span if law is EXPONENTIAL else steepest)


def _search(z: Array, gaps: Array, weights: Array, floor: bool) -> tuple[Array, float]:
    """The best β ≥ 0 of each set, and the largest one looked at."""
    steepest = STEEP / np.sort(z)[1]
    grid = np.concatenate([[0.0], np.geomspace(FLAT / z.max(), steepest, GRID)])
    gains, _, _ = _linear(np.exp(-grid[:, None] * z), gaps[:, None, :], weights, floor)  # (R, G)
    best = gains.argmax(1)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, GRID)]

    def gain(beta: Array) -> Array:
        return _linear(np.exp(-beta[:, None] * z), gaps, weights, floor)[0]

    for _ in range(SECTIONS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        better = gain(left) >= gain(right)
        low, high = np.where(better, low, left), np.where(better, right, high)
    middle = (low + high) / 2
    return np.where(gain(middle) > gains.max(1), middle, grid[best]), float(steepest)


def _linear(u: Array, y: Array, w: Array, floor: bool) -> tuple[Array, Array, Array]:
    """The best A ≥ 0 and c ≥ 0 of y ≈ A·u + c along the last axis (K), weighted by w, and by how
    much they lower the sum of squares Σwy²."""
    squares, products = (w * u * u).sum(-1), (w * u * y).sum(-1)
    height = np.maximum(products, 0.0) / squares
    gain = height**2 * squares
    if not floor:
        return gain, height, np.zeros_like(height)
    total = w.sum()
    mean_u, mean_y = (w * u).sum(-1) / total, (w * y).sum(-1) / total
    variance = squares - total * mean_u**2
    covariance = products - total * mean_u * mean_y
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = covariance / variance
        level = mean_y - slope * mean_u
        inside = (variance > 1e-9 * squares) & (slope > 0) & (level > 0)
        both = np.where(inside, total * mean_y**2 + covariance * slope, -np.inf)
    flat = total * np.maximum(mean_y, 0.0) ** 2  # A = 0: a constant gap
    edge = gain >= flat
    c = np.where(inside, level, np.where(edge, 0.0, np.maximum(mean_y, 0.0)))
    height = np.where(inside, slope, np.where(edge, height, 0.0))
    return np.where(inside, both, np.maximum(gain, flat)), height, c
