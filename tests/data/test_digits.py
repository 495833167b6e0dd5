"""The embedded digits: the same pictures and splits everywhere, ready for a model."""

import pytest
import torch
from sklearn.datasets import load_digits

from gossamer.data.digits import Digits
from gossamer.errors import ConfigError


@pytest.fixture(scope="module")
def digits():
    data = Digits()
    data.load()
    return data


def test_the_splits_are_fixed_and_hold_every_picture_once(digits):
    assert digits.info.rows == {"train": 1168, "validation": 180, "test": 449}
    assert digits.info.classes == tuple("0123456789") and digits.info.notes == ()
    places = [row for split in digits.splits.values() for row in split.index.tolist()]
    assert sorted(places) == list(range(1797))
    assert digits.fingerprint() == Digits(batch_size=7).fingerprint()


def test_at_its_own_size_a_picture_is_scikit_learns(digits):
    plain = Digits(size=8)
    found = load_digits()
    batch = next(iter(plain.batches("test")))
    rows = plain.splits["test"].index[: len(batch["x"])]
    assert torch.equal(batch["labels"], torch.tensor(found.target[rows]))
    expected = torch.tensor(found.images[rows] * 255 / 16)
    assert float((batch["x"][:, 0].double() - expected).abs().max()) <= 0.5


def test_a_training_pass_has_mean_zero_and_deviation_one(digits):
    x = torch.cat([digits.on_device(batch)["x"] for batch in digits.batches("train")])
    assert x.shape == (1168, 1, 16, 16)
    assert abs(float(x.mean())) < 0.01 and abs(float(x.std()) - 1) < 0.01


def test_every_class_is_in_every_split(digits):
    assert all(set(split.labels) == set(range(10)) for split in digits.splits.values())


def test_wrong_arguments_are_told():
    with pytest.raises(ConfigError, match=r"dataset\.size=0: at least 1"):
        Digits(size=0)
