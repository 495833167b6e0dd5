"""Bad input through the real command line: one clear line, the right exit status, no traceback."""

import pyarrow
import pytest

from gossamer.data.text import TextClassification
from gossamer.errors import DataError
from tests.runs.commands import DOCSTRINGS, MODEL, SMALL, TRAINER, gossamer, one_line
from tests.runs.conftest import write_split


def folder_with(place, **rows):
    """A text_folder whose splits have these rows and columns: train=(48, {})."""
    place.mkdir()
    for split, (count, columns) in rows.items():
        write_split(place, split, count, **columns)
    return place


NOTHING = pyarrow.array([], pyarrow.string())
GOOD = {"train": (48, {}), "validation": (12, {}), "test": (12, {})}
BAD = {
    "an empty split": (
        {**GOOD, "test": (0, {"text": NOTHING, "label": NOTHING})},
        ("the test split is empty",),
    ),
    "a label that training does not know": (
        {**GOOD, "test": (12, {"label": ["a", "b", "z"] * 4})},
        ("'z'", "test"),
    ),
    "splits that overlap": (
        {
            **GOOD,
            "test": (
                12,
                {"text": [f"train {n} {'abc'[n % 3]} word {'abc'[n % 3]}" for n in range(12)]},
            ),
        },
        ("12 rows of the train split", "dataset.overlap=drop"),
    ),
    "a label missing in the column": (
        {**GOOD, "validation": (12, {"label": ["a", None] * 6})},
        ("validation", "label"),
    ),
}


def test_data_that_is_wrong_is_a_line_for_each_thing_and_exit_status_2(tmp_path):
    paths = [folder_with(tmp_path / name.replace(" ", "-"), **BAD[name][0]) for name in BAD]
    ended = gossamer(
        "plan", "-m", *MODEL, *TRAINER, *SMALL, "dataset=text_folder",
        f"dataset.path={','.join(map(str, paths))}", "compression=magnitude", cwd=tmp_path,
    )  # fmt: skip
    assert ended.status == 2 and "Traceback" not in ended.err
    assert len(ended.complaints) == len(BAD)
    for line, (_, expected) in zip(ended.complaints, BAD.values(), strict=True):
        assert all(word in line for word in expected), line


def test_a_run_on_data_that_is_wrong_leaves_nothing_behind(tmp_path):
    rows, expected = BAD["splits that overlap"]
    place = folder_with(tmp_path / "folder", **rows)
    ended = gossamer(
        *MODEL, *TRAINER, *SMALL, "dataset=text_folder", f"dataset.path={place}",
        "compression=magnitude", cwd=tmp_path,
    )  # fmt: skip
    assert ended.status == 2
    one_line(ended, *expected)
    assert not list(tmp_path.glob("outputs/*"))


def test_an_empty_training_split_is_called_empty(tmp_path):
    rows = {**GOOD, "train": (0, {"text": NOTHING, "label": NOTHING})}
    with pytest.raises(DataError, match=r"train.* empty"):
        TextClassification(str(folder_with(tmp_path / "folder", **rows))).load()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("compression=[magnitude,lora]",), ("magnitude", "lora would destroy")),
        (("dataset.path=/nowhere",), ("dataset.path", "/nowhere")),
    ],
    ids=["order", "path"],
)
def test_what_cannot_be_built_is_one_line_and_exit_status_2(words, expected, tmp_path):
    ended = gossamer("plan", *DOCSTRINGS, *words, cwd=tmp_path)
    assert ended.status == 2
    one_line(ended, *expected)
    assert ended.out == "" and not (tmp_path / "outputs").exists()


def test_an_illegal_order_is_one_line_for_a_run_too(tmp_path):
    ended = gossamer(*DOCSTRINGS, "compression=[magnitude,lora]", cwd=tmp_path)
    assert ended.status == 2
    one_line(ended, "lora would destroy the sparse weights of magnitude")


def test_a_setting_that_does_not_fit_the_model_is_a_line_for_every_layer(tmp_path):
    ended = gossamer(
        "plan", *DOCSTRINGS, "compression=lora", "compression.lora.rank=33", cwd=tmp_path
    )
    assert ended.status == 2 and len(ended.complaints) == 4  # query and value of two blocks
    assert all(line.startswith("compression.lora: rank=33: ") for line in ended.complaints)
    assert all("set rank=32 or less" in line for line in ended.complaints)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("model._target_=os.system", "model._target_"),
        ("model._target_=gossamer.records.record.os.system", "model._target_"),
        ("+trainer.callback={_target_: subprocess.run}", "trainer.callback"),
        ("compression=magnitud", "compression"),
        ("trainer.steps=many", "trainer.steps"),
        ("+trainer.stepz=3", "trainer.stepz"),
    ],
)
def test_a_setting_that_is_wrong_is_one_line_before_anything_is_written(word, key, tmp_path):
    ended = gossamer(*DOCSTRINGS, word, cwd=tmp_path)
    assert ended.status == 2
    assert one_line(ended).startswith(key)
    assert not list(tmp_path.glob("outputs/*"))
