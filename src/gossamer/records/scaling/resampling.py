"""Bootstrap resamples of the mean gap at each budget, and the intervals that follow from them.

Which runs are drawn depends on what there is:

by seed      the same seeds (at least SEEDS) at every budget: a seed is drawn with all its budgets,
             for they share its draws
by budget    RUNS or more at every budget: runs are drawn anew within each, as if independent
by residual  otherwise: normal noise, as wide at every budget as what the law leaves over

Few runs make a plain percentile interval too narrow twice over: their spread is (n − 1)/n of the
true one, and its own error is left out. Residuals are therefore widened by √(n/(n − 1)), and
percentiles taken where Student's t has its 2.5% (Hesterberg, 2015, "expanded percentile interval").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from gossamer.records.intervals import t_quantile
from gossamer.records.scaling.laws import Array, Law, fit

RESAMPLES = 4000
SEEDS, RUNS = 5, 3  # with fewer there are too few different draws
GENERATOR = 20250930


@dataclass(frozen=True)
class Sample:
    """The gaps of a series: of each budget, in order, its seeds and their gaps."""

    budgets: Array  # (K,), rising
    gaps: Sequence[Array]  # K arrays (n_k,)
    seeds: Sequence[tuple[int, ...]]  # K tuples, in the gaps' order

    @property
    def means(self) -> Array:
        """(1, K): as one set of gaps to fit."""
        return np.array([[gaps.mean() for gaps in self.gaps]])

    @property
    def weights(self) -> Array:
        return np.array([float(len(gaps)) for gaps in self.gaps])

    @property
    def runs(self) -> int:
        return sum(map(len, self.gaps))

    def without(self, place: int) -> "Sample":
        kept = [k for k in range(len(self.gaps)) if k != place]
        return Sample(
            self.budgets[kept], [self.gaps[k] for k in kept], [self.seeds[k] for k in kept]
        )


def kind(sample: Sample) -> str:
    """ "seed", "budget" or "residual": what is drawn."""
    if len(set(sample.seeds)) == 1 and len(sample.seeds[0]) >= SEEDS:
        return "seed"
    return "budget" if min(map(len, sample.gaps)) >= RUNS else "residual"


def resampled(sample: Sample, law: Law, resamples: int = RESAMPLES) -> tuple[Array, int] | None:
    """(resamples, K) mean gaps and the degrees of freedom of their spread; None: no run is left
    over to tell a spread from. The draws are the same each time."""
    draw = np.random.default_rng(GENERATOR)
    means, counts = sample.means, [len(gaps) for gaps in sample.gaps]
    match kind(sample):
        case "seed":
            count = counts[0]
            left = np.array(sample.gaps) - means.T  # (K, S)
            drawn = draw.integers(count, size=(resamples, count))
            return means + _widened(left, count)[:, drawn].mean(-1).T, count - 1
        case "budget":
            columns = [
                _widened(gaps - gaps.mean(), n)[draw.integers(n, size=(resamples, n))].mean(-1)
                for gaps, n in zip(sample.gaps, counts, strict=True)
            ]
            return means + np.stack(columns, 1), sample.runs - len(counts)
    freedom = sample.runs - len(law.parameters)
    if freedom < 1:
        return None
    fitted = fit(law, sample.budgets, means, sample.weights).at(sample.budgets)  # (1, K)
    left = np.concatenate([g - f for g, f in zip(sample.gaps, fitted[0], strict=True)])
    spread = np.sqrt(left @ left / freedom / sample.weights)  # (K,), of the means
    return fitted + spread * draw.standard_normal((resamples, len(counts))), freedom


def bounds(values: Array, freedom: int) -> Array:
    """The 95% interval of resampled values (R, …): (2, …)."""
    tail = NormalDist().cdf(-t_quantile(0.95, freedom))
    return np.quantile(values, [tail, 1 - tail], axis=0, method="nearest")


def _widened(left: Array, count: int) -> Array:
    return left * np.sqrt(count / (count - 1))
