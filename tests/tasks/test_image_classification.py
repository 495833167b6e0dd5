"""Image classification: top-1, top-5 and calibration by hand; mixed targets; a model learns."""

import math

import pytest
import timm
import torch
from torch import nn

from gossamer.data.digits import Digits
from gossamer.data.info import DataInfo
from gossamer.tasks.image_classification import ImageClassification
from tests.tasks.fakes import Data, Told


class Pixels(nn.Module):
    """The logits are the picture itself: (B, classes)."""

    def forward(self, x):
        return x


class Pictures(Data):
    """Logits as pictures."""

    def __init__(self, logits, labels, metrics, batch=7):
        super().__init__(logits, labels, metrics, batch)
        self.info = DataInfo(
            "image", self.info.classes, {"test": len(labels)}, 0, metrics, "told", image=(1, 1, 1)
        )

    def batches(self, split):
        renamed = ({"x": b["input_ids"], "labels": b["labels"]} for b in super().batches(split))
        return list(renamed)

    def order(self, split):
        return torch.arange(len(self.labels)).flip(0)


def told(classes=8, metrics=("accuracy", "top5", "ece")):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (50,), generator=generator)
    logits = 2 * torch.randn(50, classes, generator=generator)
    logits[torch.arange(50), labels] += 1.0
    return Pictures(logits, labels, metrics)


def test_accuracy_top5_and_loss_are_the_counted_ones():
    data = told()
    seen = ImageClassification().evaluate(Pixels(), data, "test")
    best = data.logits.argsort(1, descending=True)
    hits = best == data.labels[:, None]
    logp = data.logits.log_softmax(1)[torch.arange(50), data.labels]
    assert seen["accuracy"] == pytest.approx(float(hits[:, 0].float().mean()), abs=1e-6)
    assert seen["top5"] == pytest.approx(float(hits[:, :5].any(1).float().mean()), abs=1e-6)
    assert seen["loss"] == pytest.approx(float(-logp.mean()), abs=1e-5)
    assert seen["accuracy"] < seen["top5"] < 1


def test_the_calibration_error_is_the_one_counted_by_hand():
    # two classes; confidences 0.95 (right, right, wrong, right), 0.72 (wrong, right), 0.55 (right)
    confidence = torch.tensor([0.95, 0.95, 0.95, 0.95, 0.72, 0.72, 0.55], dtype=torch.float64)
    right = [True, True, False, True, False, True, True]
    logits = torch.stack([confidence.log(), (1 - confidence).log()], 1).float()  # predicts class 0
    labels = torch.tensor([0 if hit else 1 for hit in right])
    seen = ImageClassification().evaluate(
        Pixels(), Pictures(logits, labels, ("accuracy", "ece")), "test"
    )
    expected = 4 / 7 * abs(0.95 - 3 / 4) + 2 / 7 * abs(0.72 - 1 / 2) + 1 / 7 * abs(0.55 - 1)
    assert seen["ece"] == pytest.approx(expected, abs=1e-6)
    assert seen["accuracy"] == pytest.approx(5 / 7)


def test_rows_that_are_next_to_each_other_in_confidence_fall_into_fifteenths():
    # 0.60 and 0.66 are in one of 15 bins (0.6 to 0.667), though not in one of 20
    confidence = torch.tensor([0.605, 0.66], dtype=torch.float64)
    logits = torch.stack([confidence.log(), (1 - confidence).log()], 1).float()
    data = Pictures(logits, torch.tensor([0, 1]), ("accuracy", "ece"))
    seen = ImageClassification().evaluate(Pixels(), data, "test")
    assert seen["ece"] == pytest.approx(abs((0.605 + 0.66) / 2 - 0.5), abs=1e-6)


def test_the_rows_of_an_evaluation_come_in_the_data_sets_order():
    data, rows = told(), {}
    ImageClassification().evaluate(Pixels(), data, "test", rows=rows)
    assert torch.equal(rows["label"], data.labels.flip(0))
    assert torch.equal(rows["prediction"], data.logits.argmax(1).flip(0))
    each = nn.functional.cross_entropy(data.logits, data.labels, reduction="none")
    torch.testing.assert_close(rows["loss"], each.flip(0))


def test_the_loss_is_against_targets_where_there_are_some():
    task, logits = ImageClassification(), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    labels, targets = torch.tensor([0, 1]), torch.tensor([[0.7, 0.3], [0.5, 0.5]])
    hard = task.loss({"labels": labels}, {"logits": logits})
    soft = task.loss({"labels": labels, "targets": targets}, {"logits": logits})
    logp = logits.log_softmax(1)
    torch.testing.assert_close(hard, -(logp[0, 0] + logp[1, 1]) / 2)
    torch.testing.assert_close(soft, -(targets * logp).sum() / 2)


def test_a_model_sees_pictures_and_no_answer():
    seen = []

    class Spy(nn.Module):
        def forward(self, **inputs):
            seen.append(set(inputs))
            return inputs["x"]

    batch = {"x": torch.ones(2, 3), "labels": torch.zeros(2), "targets": torch.zeros(2, 3)}
    ImageClassification().forward(Spy(), batch)
    assert seen == [{"x"}]


def test_logits_come_from_a_tensor_or_from_an_object_that_has_them():
    task = ImageClassification()
    assert torch.equal(task.forward(Pixels(), {"x": torch.ones(2, 3)})["logits"], torch.ones(2, 3))
    output = task.forward(Told().eval(), {"input_ids": torch.ones(2, 3)})
    assert torch.equal(output["logits"], torch.ones(2, 3))


def test_accuracy_is_primary_and_a_small_calibration_error_is_better():
    info = told().info
    assert ImageClassification().primary(info) == ("accuracy", "max")
    assert ImageClassification("ece").primary(info) == ("ece", "min")
    assert ImageClassification("top5").primary(info) == ("top5", "max")
    assert ImageClassification("loss").primary(info) == ("loss", "min")
    assert ImageClassification("f1").requirements(Pixels(), told()) == [
        "task.metric=f1: told has accuracy, top5, ece, loss"
    ]


def test_workloads_are_batches_of_1_8_and_32_pictures():
    workloads = ImageClassification().workloads(Digits())
    shapes = {name: tuple(inputs["x"].shape) for name, inputs in workloads.items()}
    assert shapes == {f"batch {n}": (n, 1, 16, 16) for n in (1, 8, 32)}
    assert all(set(inputs) == {"x"} for inputs in workloads.values())


def test_a_model_of_timms_gives_logits_on_a_finished_batch():
    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=4,
        in_chans=1,
        num_classes=10,
        embed_dim=24,
        depth=1,
        num_heads=2,
    )
    output = ImageClassification().forward(model, Digits().sample(3))
    assert output["logits"].shape == (3, 10)


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 16, 4, stride=2)
        self.head = nn.Linear(16 * 7 * 7, 10)

    def forward(self, x):
        return self.head(self.convolution(x).relu().flatten(1))


@pytest.mark.parametrize("settings", [{}, {"padding": 1, "mixup": 0.2, "smoothing": 0.1}])
def test_a_model_learns_the_digits_with_mixed_targets_and_without(settings):
    data, task = Digits(**settings), ImageClassification()
    torch.manual_seed(0)
    model = Convolved()
    before = task.evaluate(model, data, "validation")
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for raw in data.train_batches(1, 0, 40):
        batch = data.on_device(raw)
        optimizer.zero_grad()
        task.losses(model, task, batch, task.forward(model, batch), None)["task"].backward()
        optimizer.step()
    after = task.evaluate(model, data, "validation")
    assert before["accuracy"] < 0.3 and after["accuracy"] > 0.85
    assert after["loss"] < before["loss"] and math.isfinite(after["ece"])
    assert after["accuracy"] < after["top5"] <= 1
