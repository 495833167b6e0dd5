"""Language data from local parquet: whose splits, which column, joined or not."""

import pytest

from gossamer.data import columns
from gossamer.data.lm_folder import LmFolder
from gossamer.errors import DataError
from tests.data.corpora import documents, encoded
from tests.data.folders import folder


def texts(*values):
    return {"text": list(values)}


@pytest.fixture
def books(tmp_path):
    return folder(
        tmp_path / "books",
        train=texts(*documents(0, 60)),
        validation=texts(*documents(100, 5)),
        test=texts(*documents(200, 5)),
    )


@pytest.fixture
def articles(tmp_path):
    rows = texts("", " = Title = ", *documents(300, 4), "")
    return folder(tmp_path / "articles", validation=rows, test=texts(" = Other = ", "", "Text ."))


def test_a_folder_is_read_as_it_is(books):
    data = encoded(LmFolder(books, context=16))
    assert data.info.rows == {"train": 60, "validation": 5, "test": 5}
    assert list(data.texts()) == documents(0, 60)
    assert data.sample(3)["input_ids"].shape == (3, 16)


def test_shards_are_read_in_order(tmp_path):
    path = folder(tmp_path, **{
        "train-00000-of-00002": texts(*documents(0, 20)),
        "train-00001-of-00002": texts(*documents(20, 20)),
        "test": texts("a test"), "validation": texts("a validation"),
    })  # fmt: skip
    assert list(LmFolder(path).texts()) == documents(0, 40)


def test_another_folder_is_evaluated_on_in_place_of_its_own_splits(books, articles):
    data = LmFolder(books, evaluation=articles, evaluation_join="\n")
    assert data.info.rows == {"train": 60, "validation": 1, "test": 1}
    assert list(data.splits["test"]) == [" = Other = \n\nText ."]
    assert data.info.notes == ("validation and test from the evaluation folder",)
    rows = LmFolder(books, evaluation=articles)
    assert "2 empty documents left out of validation" in rows.info.notes
    assert list(rows.splits["test"]) == [" = Other = ", "Text ."]


def test_a_folder_of_evaluation_splits_alone_cannot_be_trained_on(articles):
    with pytest.raises(DataError, match=r"dataset.path=.*no train.parquet; .* test.parquet"):
        LmFolder(articles).load()


def test_a_joined_split_is_one_document_and_a_very_long_one_several(books, monkeypatch):
    data = LmFolder(books, join="\n\n")
    assert data.info.rows == {"train": 1, "validation": 1, "test": 1}
    assert list(data.texts()) == ["\n\n".join(documents(0, 60))]
    assert data.bytes("train") == len("\n\n".join(documents(0, 60)))
    monkeypatch.setattr(columns, "LONGEST", 500)
    pieces = list(LmFolder(books, join="\n\n").texts())
    assert len(pieces) > 3 and all(len(piece) <= 500 for piece in pieces)
    assert "\n\n".join(pieces) == "\n\n".join(documents(0, 60))


def test_large_tables_are_read_in_parts(books, monkeypatch):
    monkeypatch.setattr(columns, "ROWS", 7)
    assert list(LmFolder(books).texts()) == documents(0, 60)


def test_one_joined_document_has_nothing_to_carve(tmp_path):
    path = folder(tmp_path, train=texts(*documents(0, 60)))
    with pytest.raises(DataError, match=r"no test split, .* type dataset.join=null"):
        LmFolder(path, join="\n").load()
    assert LmFolder(path).info.rows == {"train": 54, "validation": 3, "test": 3}


def test_wrong_folders_and_columns_are_refused_in_one_line(books, articles, tmp_path):
    empty = folder(tmp_path / "empty")
    numbers = folder(tmp_path / "numbers", train={"text": ["a", None]}, test=texts("b"))
    for arguments, line in (
        ({}, "dataset.path is not set"),
        ({"path": "nowhere"}, "dataset.path=nowhere: no such folder"),
        ({"path": books, "evaluation": "nowhere"}, "dataset.evaluation=nowhere: no such folder"),
        ({"path": books, "evaluation": empty}, "no validation.parquet or test.parquet; the folder"),
        ({"path": books, "text": "txt"}, "train split has no column 'txt'; did you mean 'text'"),
        ({"path": numbers}, "lm_folder: train row 1, column 'text' holds None"),
    ):
        with pytest.raises(DataError, match=line) as caught:
            LmFolder(**arguments).load()
        assert "\n" not in str(caught.value)


def test_a_file_that_is_not_parquet_is_refused(books, tmp_path):
    (tmp_path / "books" / "test.parquet").write_text("text\n")
    with pytest.raises(DataError, match=r"test\.parquet: not a parquet file"):
        LmFolder(books).load()
