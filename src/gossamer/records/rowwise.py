"""Two models on the same test rows: the metrics of resampled rows, by numpy.

A resample is a row of `weights`, (resamples, rows): how often each test row was drawn. A metric of
all resamples at once is a few products with it, and that of the whole split has all weights 1.
Definitions are those of tasks/, which the records' figures come from.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = Mapping[str, NDArray]  # prediction, label, loss; or tokens, loss: each (rows,)
Weights = NDArray[Any]  # (resamples, rows), float

RESAMPLES = 2000
CELLS = 4_000_000  # of weights at a time: 32 MB
WINDOWS = ("loss", "perplexity")  # of a language model
KNOWN = ("accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "mse", "loss")


def known(rows: Rows) -> tuple[str, ...]:
    """The metrics that can be computed from these rows."""
    return WINDOWS if "tokens" in rows else KNOWN


def of(name: str, rows: Rows, weights: Weights) -> NDArray[Any]:
    """The metric `name` of each resample, (resamples,)."""
    if "tokens" in rows:  # every token counts the same, in whatever window
        loss = weights @ (rows["loss"].astype(float) * rows["tokens"]) / (weights @ rows["tokens"])
        return np.exp(loss) if name == "perplexity" else loss
    prediction, label = rows["prediction"], rows["label"]
    total = weights.sum(axis=1)
    match name:
        case "loss":
            return weights @ rows["loss"].astype(float) / total
        case "accuracy":
            return weights @ (prediction == label) / total
        case "mse":
            return weights @ (prediction.astype(float) - label) ** 2 / total
        case "pearson":
            return _correlation(prediction.astype(float), label.astype(float), weights)
        case "spearman":
            return _correlation(_ranks(prediction, weights), _ranks(label, weights), weights)
    right, told, true = _counts(prediction, label, weights)
    match name:
        case "f1":  # of class 1, as GLUE reports it
            classes = np.union1d(prediction, label)
            f1 = _f1(right, told, true)[:, classes == 1]
            return f1[:, 0] if f1.shape[1] else np.zeros(len(weights))
        case "macro_f1":  # over the classes that were predicted or are there
            seen = (told + true) > 0
            return np.where(seen, _f1(right, told, true), 0).sum(axis=1) / seen.sum(axis=1)
        case "matthews":
            covered = (total**2 - (told**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
            numerator = right.sum(axis=1) * total - (told * true).sum(axis=1)
            return _share(numerator, np.sqrt(covered))
    raise ValueError(f"no metric {name!r} of rows")


def bootstrap(
    name: str, mine: Rows, other: Rows, seed: int, resamples: int = RESAMPLES
) -> NDArray[Any]:
    """Differences of a metric, mine - other, in rows drawn with replacement; (resamples,). Both
    models are seen on the same draw."""
    draw = np.random.default_rng(seed)
    count = len(mine["loss"])
    found = []
    step = max(1, CELLS // count)
    for start in range(0, resamples, step):
        many = min(step, resamples - start)
        drawn = draw.integers(count, size=(many, count)) + count * np.arange(many)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=many * count)
        weights = counts.reshape(many, count).astype(np.float64)
        found.append(of(name, mine, weights) - of(name, other, weights))
    return np.concatenate(found)


def _counts(prediction: NDArray, label: NDArray, weights: Weights) -> tuple[Weights, ...]:
    """Rows of each class that are right, predicted and there, each (resamples, classes)."""
    classes = np.union1d(prediction, label)
    told, true = prediction[:, None] == classes, label[:, None] == classes
    return weights @ (told & true), weights @ told, weights @ true


def _f1(right: Weights, told: Weights, true: Weights) -> Weights:
    return _share(2 * right, told + true)


def _share(part: NDArray, whole: NDArray) -> NDArray[Any]:
    """part / whole; 0 where nothing is there."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)


def _correlation(x: NDArray, y: NDArray, weights: Weights) -> NDArray[Any]:
    """Pearson's, (resamples,); x and y are (rows,) or (resamples, rows). 0 if one is constant."""
    total = weights.sum(axis=1, keepdims=True)
    x = x - (weights * x).sum(axis=1, keepdims=True) / total
    y = y - (weights * y).sum(axis=1, keepdims=True) / total
    both, one, other = ((weights * each).sum(axis=1) for each in (x * y, x * x, y * y))
    return _share(both, np.sqrt(one * other))


def _ranks(values: NDArray, weights: Weights) -> Weights:
    """Ranks in each resample, (resamples, rows), equal values sharing their mean rank."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(place.max() + 1))
    held = np.add.reduceat(weights[:, order], starts, axis=1)  # (resamples, distinct values)
    below = np.cumsum(held, axis=1) - held
    return (below + (held + 1) / 2)[:, place]
