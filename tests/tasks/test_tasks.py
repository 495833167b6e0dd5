"""Tasks: figures equal scikit-learn's and SciPy's in any batches; the model is left as it was."""

import pytest
import scipy.stats
import sklearn.metrics
import torch

from gossamer.tasks.classification import Classification
from gossamer.tasks.regression import Regression
from tests.tasks.fakes import Data, Told

CLASSES = ("accuracy", "macro_f1", "matthews")
SCORES = ("pearson", "spearman", "mse")


def classified(classes=3, batch=7, metrics=CLASSES):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (50,), generator=generator)
    logits = torch.randn(50, classes, generator=generator)
    logits[torch.arange(50), labels] += 0.8
    return Data(logits, labels, metrics, batch)


def scored(batch=7):
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(50, generator=generator) * 5
    noise = torch.randn(50, generator=generator)
    return Data((labels + noise)[:, None], labels, SCORES, batch)


def test_classification_metrics_equal_scikit_learns():
    data = classified()
    seen = Classification().evaluate(Told(), data, "test")
    predicted, labels = data.logits.argmax(1), data.labels
    assert seen == pytest.approx(
        {
            "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
            "macro_f1": sklearn.metrics.f1_score(labels, predicted, average="macro"),
            "matthews": sklearn.metrics.matthews_corrcoef(labels, predicted),
            "loss": sklearn.metrics.log_loss(labels, data.logits.double().softmax(1)),
        },
        abs=1e-5,
    )


def test_f1_is_that_of_class_one():
    data = classified(classes=2, metrics=("f1", "accuracy"))
    seen = Classification().evaluate(Told(), data, "test")
    expected = sklearn.metrics.f1_score(data.labels, data.logits.argmax(1))
    assert seen["f1"] == pytest.approx(expected, abs=1e-6)


def test_regression_metrics_equal_scipys():
    data = scored()
    seen = Regression().evaluate(Told(), data, "test")
    predicted, labels = data.logits[:, 0], data.labels
    mse = float(((predicted - labels) ** 2).mean())
    assert seen == pytest.approx(
        {
            "pearson": scipy.stats.pearsonr(predicted, labels).statistic,
            "spearman": scipy.stats.spearmanr(predicted, labels).statistic,
            "mse": mse,
            "loss": mse,
        },
        abs=1e-5,
    )


def test_a_correlation_with_a_constant_prediction_counts_as_zero():
    data = scored()
    data.logits = torch.full_like(data.logits, 2.5)
    seen = Regression().evaluate(Told(), data, "test")
    assert (seen["pearson"], seen["spearman"]) == (0.0, 0.0)
    assert seen["mse"] > 0


@pytest.mark.parametrize(("task", "make"), [(Classification(), classified), (Regression(), scored)])
def test_figures_do_not_depend_on_how_rows_fall_into_batches(task, make):
    figures = [task.evaluate(Told(), make(batch=size), "test") for size in (1, 7, 50)]
    assert figures[0] == pytest.approx(figures[1], abs=1e-6)
    assert figures[0] == pytest.approx(figures[2], abs=1e-6)


@pytest.mark.parametrize(
    ("task", "data"), [(Classification(), classified()), (Regression(), scored())]
)
def test_evaluation_is_in_eval_mode_without_gradients_and_restores_every_mode(task, data):
    model = Told()
    task.evaluate(model, data, "test")
    assert set(model.seen) == {(False, False)}
    assert model.training and model.dropout.training and not model.frozen.training
    assert model.scale.grad is None


def test_modes_are_restored_when_evaluation_fails():
    model, data = Told(), classified()
    data.labels = data.labels + 5  # outside the classes
    with pytest.raises(IndexError):
        Classification().evaluate(model, data, "test")
    assert model.training and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("task", "data"), [(Classification(), classified()), (Regression(), scored())]
)
def test_the_loss_is_differentiable_and_named_task(task, data):
    model, batch = Told().eval(), data.batches("test")[0]
    output = task.forward(model, batch)
    assert "labels" not in output and output["logits"].shape[0] == len(batch["labels"])
    losses = task.losses(model, task, batch, output, None)
    assert set(losses) == {"task"}
    losses["task"].backward()
    assert model.scale.grad.abs() > 0


def test_the_primary_metric_is_the_data_sets_unless_another_is_named():
    assert Classification().primary(classified().info) == ("accuracy", "max")
    assert Classification("loss").primary(classified().info) == ("loss", "min")
    assert Regression().primary(scored().info) == ("pearson", "max")
    assert Regression("mse").primary(scored().info) == ("mse", "min")


def test_what_does_not_go_together_is_a_problem_that_says_what_to_type():
    assert Classification().requirements(Told(), classified()) == []
    assert Regression().requirements(Told(), scored()) == []
    assert "type task=regression" in Classification().requirements(Told(), scored())[0]
    assert "type task=classification" in Regression().requirements(Told(), classified())[0]
    assert Classification("f2").requirements(Told(), classified()) == [
        "task.metric=f2: told has accuracy, macro_f1, matthews, loss"
    ]
    three = classified(metrics=("f1",))
    assert "f1 is of two classes, not 3" in Classification().requirements(Told(), three)[0]


def test_workloads_are_named_by_batch_size_and_carry_no_labels():
    workloads = Classification().workloads(classified(), (1, 32))
    assert list(workloads) == ["batch 1", "batch 32"]
    assert workloads["batch 32"]["input_ids"].shape == (32, 3)
    assert set(workloads["batch 1"]) == {"input_ids"}
