"""Hub data sets: fetched whole or streamed, in the hub's own types, and the same from a folder."""

from pathlib import Path

import datasets
import pytest
import yaml

from gossamer.cli.schema import signature
from gossamer.data import lm_hub
from gossamer.data.lm_hub import HubText
from gossamer.errors import ConfigError, DataError
from tests.data.corpora import documents, encoded
from tests.data.folders import folder

CHOICES = Path(__file__).parents[2] / "conf" / "dataset"
STREAM = {"hub": "allenai/c4", "subset": "en", "join": None, "stream": True, "documents": 50}


class Hub:
    """Stands in for datasets.load_dataset: given splits, tables or streams; keeps the calls."""

    def __init__(self, **splits):
        self.splits, self.calls, self.read = splits, [], 0

    def __call__(self, hub, subset=None, *, revision=None, streaming=False):
        self.calls.append((hub, subset, revision, streaming))
        if streaming:
            return {
                split: datasets.IterableDataset.from_generator(lambda texts=texts: self.rows(texts))
                for split, texts in self.splits.items()
            }
        return {
            split: datasets.Dataset.from_dict({"text": texts})
            for split, texts in self.splits.items()
        }

    def rows(self, texts):
        for number, text in enumerate(texts):
            self.read += 1
            yield {"url": f"page {number}", "text": text}


@pytest.fixture
def hub(monkeypatch):
    def there(**splits):
        found = Hub(**splits)
        monkeypatch.setattr(datasets, "load_dataset", found)
        monkeypatch.setattr(lm_hub, "hub_reachable", lambda: True)
        return found

    return there


def test_wikitext_is_one_document_per_split(hub):
    lines = [" = A = ", "", *documents(0, 40)]
    calls = hub(train=lines, validation=["b", ""], test=["c", "d"]).calls
    data = HubText(context=16)
    assert data.info.rows == {"train": 1, "validation": 1, "test": 1}
    assert list(data.texts()) == ["\n\n".join(lines)]
    assert list(data.splits["test"]) == ["c\n\nd"]
    assert data.info.name == "wikitext/wikitext-2-raw-v1"
    assert calls == [("Salesforce/wikitext", "wikitext-2-raw-v1", None, False)]
    assert encoded(data).sample(2)["labels"].shape == (2, 16)


def test_of_a_stream_no_more_is_read_than_asked_for(hub, tmp_path):
    c4 = hub(train=documents(0, 500), validation=documents(1000, 200))
    data = HubText(**STREAM, validation_documents=4, cache=str(tmp_path))
    assert data.info.rows == {"train": 46, "validation": 4, "test": 4}
    assert list(data.splits["test"]) == documents(1000, 4)
    assert {*data.texts(), *data.splits["validation"]} == {*documents(0, 50)}
    assert c4.read == 54
    assert "of train the first 50 rows were read" in data.info.notes


def test_a_stream_is_read_once_and_then_needs_no_hub(hub, tmp_path, monkeypatch):
    c4 = hub(train=documents(0, 500), validation=documents(1000, 200))
    arguments = {**STREAM, "validation_documents": 4, "cache": str(tmp_path)}
    first = HubText(**arguments).fingerprint()
    assert HubText(**arguments).fingerprint() == first
    assert len(c4.calls) == 1
    HubText(**{**arguments, "documents": 60}).load()
    HubText(**{**arguments, "revision": "v1"}).load()
    assert len(c4.calls) == 3


@pytest.mark.parametrize("damage", ["facts.json", "train.parquet"])
def test_a_copy_that_is_not_whole_is_made_again(hub, tmp_path, damage):
    c4 = hub(train=documents(0, 500), validation=documents(1000, 200))
    arguments = {**STREAM, "cache": str(tmp_path)}
    first = HubText(**arguments).fingerprint()
    (file,) = tmp_path.rglob(damage)
    file.write_bytes(file.read_bytes()[:-4])
    assert HubText(**arguments).fingerprint() == first
    assert len(c4.calls) == 2


def test_a_flipped_byte_in_a_copy_is_seen(hub, tmp_path):
    hub(train=documents(0, 500), validation=documents(1000, 200))
    arguments = {**STREAM, "cache": str(tmp_path)}
    HubText(**arguments).load()
    (file,) = tmp_path.rglob("train.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"train.parquet: not a parquet file that can be read"):
        HubText(**arguments).load()


def test_a_data_set_of_one_split_gives_all_three(hub, tmp_path):
    hub(train=documents(0, 500))
    data = HubText(
        "allenai/dolmino-mix-1124", "wiki", stream=True, join=None, documents=200,
        validation_documents=6, cache=str(tmp_path),
    )  # fmt: skip
    assert data.info.rows == {"train": 188, "validation": 6, "test": 6}
    assert data.info.name == "dolmino-mix-1124/wiki"


def test_another_column_that_is_not_there_is_named(hub, tmp_path):
    hub(train=documents(0, 500), validation=documents(1000, 200))
    for stream in (True, False):
        with pytest.raises(DataError, match="no column 'txt'; did you mean 'text'"):
            HubText(**{**STREAM, "stream": stream}, text="txt", cache=str(tmp_path)).load()


def test_a_folder_in_place_of_the_hub(tmp_path):
    path = folder(
        tmp_path,
        train={"text": documents(0, 60)},
        validation={"text": documents(100, 9)},
        test={"text": documents(200, 9)},
    )
    data = HubText(path=path, join=None, documents=30, validation_documents=3)
    assert data.info.rows == {"train": 30, "validation": 3, "test": 3}
    assert list(data.texts()) == documents(0, 30)


def test_an_unreachable_hub_says_what_to_type(monkeypatch, tmp_path):
    def fails(*arguments, **keywords):
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    monkeypatch.setattr(lm_hub, "hub_reachable", lambda: True)
    for arguments in ({}, {**STREAM, "cache": str(tmp_path)}):
        with pytest.raises(DataError, match=r"no route to the hub\); or type dataset.path=FOLDER"):
            HubText(**arguments).load()


def test_impossible_arguments_are_refused_by_key():
    with pytest.raises(ConfigError, match=r"dataset.documents=null: .*dataset.documents=100000"):
        HubText(stream=True)
    with pytest.raises(ConfigError, match=r"dataset.validation_documents=0: at least 1"):
        HubText(validation_documents=0)


def test_the_signature_has_the_values_of_wikitext2():
    arguments = signature("gossamer.data.lm_hub.HubText").arguments
    content = yaml.safe_load((CHOICES / "wikitext2.yaml").read_text(encoding="utf-8"))
    assert {name: each.default for name, each in arguments.items()} == {
        key: value for key, value in content.items() if key not in ("_target_", "defaults")
    }


@pytest.mark.network
@pytest.mark.parametrize("choice", ["wikitext2", "c4"])
def test_the_hub_has_what_the_choices_name(choice, tmp_path):
    content = yaml.safe_load((CHOICES / f"{choice}.yaml").read_text(encoding="utf-8"))
    arguments = {k: v for k, v in content.items() if k not in ("_target_", "defaults")}
    if arguments["stream"]:
        arguments |= {"documents": 200, "validation_documents": 5}
    data = encoded(HubText(**arguments | {"cache": str(tmp_path), "context": 64}))
    assert data.tokens("train") > 1000


def test_training_text_and_what_is_evaluated_may_come_from_two_data_sets(hub):
    calls = hub(train=documents(0, 30), validation=["b", "bb"], test=["c", "d"]).calls
    data = HubText(
        "allenai/c4", "en", join=None, evaluation_hub="Salesforce/wikitext",
        evaluation_subset="wikitext-2-raw-v1", evaluation_join="\n\n", context=16,
    )  # fmt: skip
    assert data.info.rows == {"train": 30, "validation": 1, "test": 1}
    assert list(data.splits["test"]) == ["c\n\nd"]
    assert "validation and test are those of wikitext/wikitext-2-raw-v1" in data.info.notes
    assert [call[:2] for call in calls] == [
        ("allenai/c4", "en"),
        ("Salesforce/wikitext", "wikitext-2-raw-v1"),
    ]
