"""Metrics of resampled rows, against the libraries that the tasks' own figures come from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.records import rowwise
from gossamer.tasks import classification, regression

CLASSES = 4


def drawn(seed: int, rows: int = 40, scores: bool = False) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    if scores:  # rounded, so that some are equal
        label = draw.normal(size=rows).round(1)
        prediction = (label + draw.normal(size=rows)).round(1)
        values = {"prediction": prediction, "label": label, "loss": (prediction - label) ** 2}
        return {name: value.astype(np.float32) for name, value in values.items()}
    label = draw.integers(CLASSES, size=rows)
    prediction = np.where(draw.random(rows) < 0.6, label, draw.integers(CLASSES, size=rows))
    return {"prediction": prediction, "label": label, "loss": draw.random(rows)}


def of_task(name: str, rows: dict[str, np.ndarray]) -> float:
    """The figure as the task makes it."""
    if name == "loss":
        return float(rows["loss"].mean())
    known = ("pearson", "spearman", "mse")
    metric = regression._metric(name) if name in known else classification._metric(name, CLASSES)
    metric.update(torch.as_tensor(rows["prediction"]), torch.as_tensor(rows["label"]))
    return float(metric.compute())


def repeated(rows: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    """The rows themselves, each as often as it was drawn."""
    return {name: np.repeat(value, weights.astype(int)) for name, value in rows.items()}


@pytest.mark.parametrize("name", rowwise.KNOWN)
@pytest.mark.parametrize("seed", range(5))
def test_a_weighted_metric_is_the_tasks_metric_of_repeated_rows(name: str, seed: int) -> None:
    rows = drawn(seed, scores=name in ("pearson", "spearman", "mse"))
    if name == "f1":  # of two classes
        rows |= {key: np.minimum(rows[key], 1) for key in ("prediction", "label")}
    weights = np.random.default_rng(seed).integers(4, size=(3, 40)).astype(float)
    weights[0] = 1
    found = rowwise.of(name, rows, weights)
    golden = [of_task(name, repeated(rows, one)) for one in weights]
    assert found == pytest.approx(golden, abs=1e-5)


@pytest.mark.parametrize("name", ["f1", "macro_f1", "matthews", "pearson", "spearman"])
def test_a_model_that_says_one_thing_has_a_figure(name: str) -> None:
    rows = drawn(1, scores=name in ("pearson", "spearman"))
    constant = {**rows, "prediction": np.zeros_like(rows["prediction"])}
    (found,) = rowwise.of(name, constant, np.ones((1, 40)))
    assert found == 0.0 if name != "macro_f1" else 0 < found < 0.2


def test_a_hand_case_of_the_bootstrap() -> None:
    """Of two rows one is better by 1: a resample has it 0, 1 or 2 times, with 1/4, 1/2 and 1/4."""
    rows = {"prediction": np.zeros(2), "label": np.zeros(2)}
    mine, other = {**rows, "loss": np.array([1.0, 0.0])}, {**rows, "loss": np.zeros(2)}
    values, counts = np.unique(rowwise.bootstrap("loss", mine, other, seed=1), return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0] and counts.sum() == 2000
    assert counts / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_both_models_are_seen_on_the_same_draw_and_a_seed_repeats_it() -> None:
    rows = drawn(1)
    assert not rowwise.bootstrap("macro_f1", rows, rows, seed=1).any()
    other = drawn(2) | {"label": rows["label"]}
    first = rowwise.bootstrap("loss", rows, other, seed=1)
    assert np.array_equal(first, rowwise.bootstrap("loss", rows, other, seed=1))
    assert not np.array_equal(first, rowwise.bootstrap("loss", rows, other, seed=2))


def test_many_rows_are_resampled_in_parts(monkeypatch) -> None:
    rows, other = drawn(1), drawn(2)
    whole = rowwise.bootstrap("loss", rows, other, seed=1, resamples=50)
    monkeypatch.setattr(rowwise, "CELLS", 400)
    parts = rowwise.bootstrap("loss", rows, other, seed=1, resamples=50)
    assert len(parts) == 50 and np.allclose(parts, whole)


@given(st.integers(0, 1000))
def test_the_interval_is_about_as_wide_as_theory_says(seed: int) -> None:
    """The mean of 400 differences with a standard deviation of 1 has an error of 1/20."""
    loss = np.random.default_rng(seed).normal(size=400)
    loss = (loss - loss.mean()) / loss.std()
    rows = {"prediction": np.zeros(400), "label": np.zeros(400)}
    found = rowwise.bootstrap(
        "loss", {**rows, "loss": loss}, {**rows, "loss": np.zeros(400)}, seed, resamples=500
    )
    assert found.std() == pytest.approx(0.05, rel=0.2)
