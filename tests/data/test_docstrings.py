"""The embedded data set: big enough, nothing leaks, the same every time."""

import re
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from gossamer.data.docstrings import PACKAGES, Docstrings, assign_modules, unique_docstrings
from gossamer.errors import DataError


@pytest.fixture(scope="module")
def data():
    data = Docstrings()
    data.load()
    return data


def test_there_are_eight_classes_and_two_thousand_examples_and_none_dominates(data):
    rows = data.info.rows
    assert len(data.info.classes) >= 8
    assert sum(rows.values()) >= 2000
    assert rows["test"] > 400 and rows["validation"] > 200
    for split in data.splits.values():
        counts = Counter(split.labels)
        assert set(counts) == set(range(len(PACKAGES)))
        assert max(counts.values()) / len(split) < 0.2


def test_no_text_occurs_twice_whatever_its_case_and_punctuation(data):
    texts = [text for split in data.splits.values() for text in split.first]
    letters = [re.sub(r"[\W_]+", " ", text.lower()).strip() for text in texts]
    assert len(set(letters)) == len(letters)


def test_the_packages_names_are_masked_in_every_text(data):
    for split in data.splits.values():
        for text in split.first:
            assert not any(package in text.lower() for package in PACKAGES)


def test_a_module_lies_in_one_split(data):
    folder = Path(sysconfig.get_paths()["stdlib"])
    homes = {text: split for split, one in data.splits.items() for text in one.first}
    for module, texts in unique_docstrings(folder).items():
        assert len({homes[text] for text in texts}) == 1, module


def test_reading_again_gives_the_same_splits(data):
    assert Docstrings().fingerprint() == data.fingerprint()


def test_modules_are_read_without_being_imported_and_shared_texts_left_out(tmp_path):
    for number, package in enumerate(PACKAGES):
        (tmp_path / package).mkdir()
        for module in "abc":
            (tmp_path / package / f"{module}.py").write_text(
                f'"""Things of {package}, {number} {module}."""\nraise SystemExit\n'
                f'def f():\n    """Shared by all packages."""\n'
                f'def g():\n    """Twice in package {number}."""\n'
            )
    texts = unique_docstrings(tmp_path)
    assert sum(map(len, texts.values())) == 3 * len(PACKAGES) + len(PACKAGES)
    assert texts["email", "email/a.py"] == ["Things of _, 1 a.", "Twice in package 1."]
    with pytest.raises(DataError, match="yields 40 rows, fewer than 2000"):
        Docstrings(path=str(tmp_path)).load()


def test_a_library_without_sources_is_refused(tmp_path):
    with pytest.raises(DataError, match="use a Python that carries its sources"):
        Docstrings(path=str(tmp_path)).load()


def test_modules_are_shared_out_by_size_and_every_split_gets_one():
    sizes = {"a": 60, "b": 20, "c": 10, "d": 6, "e": 4}
    assert assign_modules(sizes) == {
        "a": "train",
        "b": "test",
        "c": "validation",
        "d": "validation",
        "e": "test",
    }
    assert set(assign_modules({"a": 90, "b": 1, "c": 1}).values()) == {
        "train",
        "validation",
        "test",
    }
