"""Student-t intervals, paired t tests and McNemar's; plain Python, because scipy takes longer to
import than `gossamer compare` may take in all."""

import math
from collections.abc import Sequence
from functools import cache


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """Mean, and half the width of its t interval; None for a single value, which has none."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, math.sqrt(variance / count) * t_quantile(level, count - 1)


@cache
def t_quantile(level: float, freedom: int) -> float:
    """The t with P(|T| <= t) = level for `freedom` degrees of freedom, by bisection."""
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        if _inside(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _inside(angle: float, freedom: int) -> float:
    """P(|T| <= t) at angle = atan(t / √ν): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for power in range(odd + 2, freedom - 1, 2):
        term *= cosine**2 * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def paired_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of a paired t test: how often a mean at least this far from zero would be seen if
    the true one were zero. None for a single pair, or if all differ by exactly the same: there is
    no spread to hold the mean against."""
    mean, _ = mean_interval(differences)
    count = len(differences)
    if count < 2:
        return None
    variance = math.fsum((value - mean) ** 2 for value in differences) / (count - 1)
    if math.sqrt(variance) <= 1e-12 * max(map(abs, differences)):  # rounding alone
        return None
    t = abs(mean) / math.sqrt(variance / count)
    freedom = count - 1
    return max(0.0, 1 - _inside(math.atan(t / math.sqrt(freedom)), freedom))


def mcnemar(better: int, worse: int) -> float:
    """Two-sided p of the exact McNemar test: of the `better + worse` rows that exactly one of two
    models has right, so many or fewer fall to the rarer side of a fair coin."""
    total = better + worse
    term = tail = 1  # binomial coefficients, as whole numbers
    for drawn in range(1, min(better, worse) + 1):
        term = term * (total - drawn + 1) // drawn
        tail += term
    return min(1.0, 2 * tail / 2**total)
