"""Which documents a split has: what is carved out, left out, and never in two splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.data.documents import Documents, choose_documents, limited_documents
from gossamer.errors import DataError
from tests.data.corpora import documents


def chosen(most=None, **texts):
    splits, notes = choose_documents(
        "given", {split: Documents.of(each) for split, each in texts.items()}, most
    )
    return {split: list(each) for split, each in splits.items()}, notes


TEXTS = st.lists(st.sampled_from([f"text {i}" for i in range(12)]), min_size=1, max_size=30)


@given(train=TEXTS, validation=TEXTS, test=TEXTS)
def test_no_document_is_in_two_splits_and_test_stays_as_it_is(train, validation, test):
    try:
        splits, _ = chosen(train=train, validation=validation, test=[f" {t}\n" for t in test])
    except DataError as error:
        assert "has no document" in str(error)
        return
    kept = {split: {text.strip() for text in texts} for split, texts in splits.items()}
    assert splits["test"] == [f" {t}\n" for t in test]
    assert splits["validation"] == [t for t in validation if t not in kept["test"]]
    assert splits["train"] == [t for t in train if t not in {*test, *validation}]


def test_what_gave_way_is_said():
    train = documents(0, 20)
    splits, notes = chosen(train=train, validation=[train[3] + "\n"], test=[" " + train[7], "new"])
    assert splits["train"] == [text for i, text in enumerate(train) if i not in (3, 7)]
    assert notes == ["2 documents left out of train: they occur in a later split"]


def test_without_a_test_split_validation_is_test_and_training_gives_the_selection_split():
    splits, notes = chosen(train=documents(0, 100), validation=documents(200, 6))
    assert splits["test"] == documents(200, 6)
    assert len(splits["validation"]) == 6 and len(splits["train"]) == 94
    assert sorted([*splits["train"], *splits["validation"]]) == sorted(documents(0, 100))
    assert notes[0] == "test is the published validation split: none was published"
    assert notes[1] == "validation is 6 documents carved out of training by a fixed draw"
    assert chosen(train=documents(0, 100), validation=documents(200, 6))[0] == splits


def test_a_lone_training_split_gives_both():
    splits, notes = chosen(train=documents(0, 100))
    assert [len(splits[s]) for s in ("train", "validation", "test")] == [90, 5, 5]
    assert len(notes) == 2
    assert [len(texts) for texts in chosen(2, train=documents(0, 100))[0].values()] == [96, 2, 2]


def test_copies_of_a_carved_document_do_not_stay_in_training():
    splits, _ = chosen(train=documents(0, 50) * 2)
    assert not {*splits["train"]} & {*splits["validation"], *splits["test"]}
    assert not {*splits["validation"]} & {*splits["test"]}


def test_documents_without_text_are_left_out():
    splits, notes = chosen(train=["a", "", "b"], validation=["c", "\n"], test=["d"])
    assert splits == {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    assert notes == [
        "1 empty documents left out of train",
        "1 empty documents left out of validation",
    ]


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ({"test": ["a"]}, "given: no train split; there are test"),
        ({"train": ["a", "b"], "test": ["c"]}, "no validation split, and 2 training documents"),
        ({"train": ["a"], "validation": ["b"], "test": ["a"]}, "the train split has no document"),
        ({"train": ["a"], "validation": ["b"], "test": [" "]}, "the test split has no document"),
    ],
)
def test_what_cannot_be_split_is_refused(texts, line):
    with pytest.raises(DataError, match=line):
        chosen(**texts)


def test_sizes_and_digests_are_of_what_is_kept():
    whole = Documents.of(["ä", "bc", "def"])
    assert whole.size == 7 and len(whole) == 3
    some = whole.only(whole.keys != Documents.of(["bc"]).keys[0])
    assert list(some) == ["ä", "def"] and some.size == 5
    assert some.fingerprint == Documents.of(["ä", "def"]).fingerprint != whole.fingerprint
    limited = limited_documents({"train": some}, 1, None)["train"]
    assert len(limited) == 1 and {*limited} < {*some}


def test_training_and_what_is_held_out_are_limited_apart():
    splits = {name: Documents.of([f"{name} {i}" for i in range(9)]) for name in ("train", "test")}
    few = limited_documents(splits, None, 2)
    assert (len(few["train"]), len(few["test"])) == (9, 2)
    assert list(limited_documents(splits, 4, 2)["test"]) == list(few["test"])
