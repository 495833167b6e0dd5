"""Local folders of parquet: what is read, what is carved out, and what is refused in one line."""

import pytest
import torch

from gossamer.data.text import TextClassification
from gossamer.errors import ConfigError, DataError
from gossamer.models.wordpiece import train_wordpiece
from tests.data.folders import folder, named, rows


@pytest.fixture
def three(tmp_path):
    return folder(tmp_path, train=rows(0, 40), validation=rows(100, 8), test=rows(200, 10))


def encoded(data):
    data.encode(train_wordpiece(data.texts(), 200))
    return data


def test_three_splits_are_read_as_they_are(three):
    info = TextClassification(three).info
    assert info.rows == {"train": 40, "validation": 8, "test": 10}
    assert info.classes == ("0", "1")
    assert info.metrics[0] == "accuracy"
    assert info.notes == ()


def test_class_names_come_from_the_file_or_from_the_strings_themselves(tmp_path):
    plain = rows(0, 20)
    strings = {**plain, "label": ["bad" if label else "good" for label in plain["label"]]}
    test = {"text": ["another one", "one more"], "label": ["good", "bad"]}
    info = TextClassification(folder(tmp_path / "strings", train=strings, test=test)).info
    assert info.classes == ("bad", "good")
    names = ["negative", "positive"]
    info = TextClassification(
        folder(tmp_path / "named", train=named(plain, names), test=named(rows(50, 4), names))
    ).info
    assert info.classes == ("negative", "positive")


def test_floats_are_scores(tmp_path):
    train = {"text": [f"text {i}" for i in range(30)], "label": [i / 7 for i in range(30)]}
    data = TextClassification(folder(tmp_path, train=train, test={"text": ["a b"], "label": [2.5]}))
    assert data.info.classes is None
    assert data.info.metrics == ("pearson", "spearman", "mse")
    assert next(iter(encoded(data).batches("test")))["labels"].dtype == torch.float32


def test_hidden_test_labels_make_validation_the_test_and_carve_a_selection_split(tmp_path):
    hidden = {**rows(300, 10), "label": [-1] * 10}
    path = folder(tmp_path, train=rows(0, 200), validation=rows(210, 12), test=hidden)
    data = TextClassification(path)
    assert data.info.rows == {"train": 188, "validation": 12, "test": 12}
    assert data.splits["test"].first == rows(210, 12)["text"]
    assert not set(data.splits["validation"].first) & set(data.splits["train"].first)
    assert len(data.info.notes) == 2
    again = TextClassification(path)
    again.load()
    assert again.splits == data.splits


def test_the_selection_split_takes_a_tenth_of_training_at_most(tmp_path):
    data = TextClassification(folder(tmp_path, train=rows(0, 50), validation=rows(100, 30)))
    assert data.info.rows == {"train": 45, "validation": 5, "test": 30}


def test_copies_of_carved_rows_do_not_stay_in_training(tmp_path):
    train = {name: values * 2 for name, values in rows(0, 40).items()}  # every text twice
    data = TextClassification(folder(tmp_path, train=train, test=rows(100, 8)))
    data.load()
    assert not set(data.splits["validation"].first) & set(data.splits["train"].first)


def test_texts_in_two_splits_are_an_error_that_says_how_to_go_on(tmp_path):
    train = rows(0, 40)
    test = {"text": [train["text"][3] + " ", "unseen words"], "label": [1, 0]}
    path = folder(tmp_path, train=train, validation=rows(100, 8), test=test)
    with pytest.raises(DataError, match=r"1 rows of the train split .* type dataset.overlap=drop"):
        TextClassification(path).load()
    data = TextClassification(path, overlap="drop")
    assert data.info.rows == {"train": 39, "validation": 8, "test": 2}
    assert "1 rows left out of train" in data.info.notes[0]


def test_the_same_text_with_another_second_text_is_another_row(tmp_path):
    train = {**rows(0, 20), "other": [f"b{i}" for i in range(20)]}
    test = {"text": train["text"][:4], "label": [0, 1, 0, 1], "other": ["c", "d", "e", "f"]}
    data = TextClassification(folder(tmp_path, train=train, test=test), pair="other")
    assert data.info.rows["test"] == 4
    assert len(list(data.texts())) == 2 * data.info.rows["train"]


WRONG = {
    "no such folder": (None, {}, "no such folder"),
    "no training file": ({"test": rows(0, 4)}, {}, "no train.parquet; the folder holds test"),
    "an empty split": ({"train": rows(0, 20), "test": rows(0, 0)}, {}, "the test split is empty"),
    "only a training split": ({"train": rows(0, 20)}, {}, "no validation split"),
    "a missing text column": (
        {"train": rows(0, 20), "test": rows(50, 4)},
        {"text": "txt"},
        "no column 'txt'; did you mean 'text'",
    ),
    "a missing label column": (
        {"train": rows(0, 20), "test": rows(50, 4)},
        {"label": "klass"},
        "no column 'klass'; the columns are",
    ),
    "a label that training does not know": (
        {"train": rows(0, 20), "test": rows(50, 6, classes=3)},
        {},
        "never occurs in training",
    ),
    "a class that training lacks": (
        {
            "train": named({**rows(0, 20)}, ["a", "b", "c"]),
            "validation": named(rows(30, 6), ["a", "b", "c"]),
            "test": named(rows(50, 6, classes=3), ["a", "b", "c"]),
        },
        {},
        "class 'c' occurs in the test split, but never in training",
    ),
    "a label outside the classes": (
        {
            "train": named(rows(0, 20), ["a", "b"]),
            "validation": named(rows(30, 6), ["a", "b"]),
            "test": {**rows(50, 6), "label": [0, 1, 0, 1, -1, 0]},
        },
        {},
        "1 rows with labels \\[-1\\], but the classes are 0 to 1",
    ),
    "one class only": (
        {"train": rows(0, 20, classes=1), "test": rows(50, 4, classes=1)},
        {},
        "only one class",
    ),
    "an empty cell": (
        {"train": {**rows(0, 3), "text": ["a", None, "c"]}, "test": rows(50, 4)},
        {},
        "train row 1, column 'text' holds None",
    ),
    "a score that is not a number": (
        {
            "train": {"text": ["a", "b"], "label": [0.5, float("nan")]},
            "test": {"text": ["c"], "label": [0.5]},
        },
        {},
        "has the score nan",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_folder_is_refused_in_one_line_that_names_what_is_wrong(case, tmp_path):
    splits, arguments, line = WRONG[case]
    path = str(tmp_path / "nowhere") if splits is None else folder(tmp_path, **splits)
    with pytest.raises(DataError, match=line) as caught:
        TextClassification(path, **arguments).load()
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    path = folder(tmp_path, train=rows(0, 20), test=rows(50, 4))
    (tmp_path / "test.parquet").write_text("text,label\n")
    with pytest.raises(DataError, match=r"test\.parquet: not a parquet file"):
        TextClassification(path).load()


@pytest.mark.parametrize(
    "arguments", [{"batch_size": 0}, {"max_length": 1}, {"limit": 0}, {"overlap": "ignore"}]
)
def test_impossible_arguments_are_refused_by_key(arguments):
    with pytest.raises(ConfigError, match=f"dataset.{next(iter(arguments))}="):
        TextClassification("anywhere", **arguments)


def test_limit_takes_a_fixed_sample_of_every_split(three):
    small = TextClassification(three, limit=6)
    assert small.info.rows == {"train": 6, "validation": 6, "test": 6}
    again = TextClassification(three, limit=6)
    assert again.fingerprint() == small.fingerprint()
    assert small.fingerprint() != TextClassification(three).fingerprint()


def test_the_fingerprint_follows_the_content(three, tmp_path):
    changed = rows(0, 40)
    changed["label"][7] = 1 - changed["label"][7]
    path = folder(tmp_path / "b", train=changed, validation=rows(100, 8), test=rows(200, 10))
    assert TextClassification(path).fingerprint() != TextClassification(three).fingerprint()


def test_batches_are_padded_to_eight_and_masked_exactly(tmp_path):
    train = {"text": [" ".join(["word"] * n) for n in range(1, 31)], "label": [0, 1] * 15}
    test = {"text": ["other word", "one"], "label": [0, 1]}
    path = folder(tmp_path, train=train, validation=rows(40, 4), test=test)
    data = encoded(TextClassification(path, batch_size=4, max_length=20))
    seen = 0
    for batch in data.batches("train"):
        width = batch["input_ids"].shape[1]
        assert width % 8 == 0 or width == 20
        assert torch.equal(batch["attention_mask"], (batch["input_ids"] != 0).long())
        assert batch["attention_mask"].sum(1).max() > width - 8
        seen += len(batch["labels"])
    assert seen == 30
    assert data.sample(3)["input_ids"].shape == (3, 20)
    assert data.sample(64)["labels"].shape == (64,)


def test_training_batches_hold_the_rows_of_the_order(three):
    data = encoded(TextClassification(three, batch_size=16))
    whole = list(data.train_batches(5, 0, 6))
    rest = list(data.train_batches(5, 4, 2))
    for one, other in zip(whole[4:], rest, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(len(batch["labels"]) == 16 for batch in whole)
    assert data.batches_per_epoch == 2
