"""Image folders: splits, classes, columns, conversions, fingerprints; errors for people."""

import io
import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from gossamer.data import images as module
from gossamer.data import pictures
from gossamer.data.images import Images
from gossamer.errors import ConfigError, DataError
from tests.data.folders import folder
from tests.data.painted import class_folders, images, named, painted, rows


def refused(match: str, path: str, **settings) -> None:
    with pytest.raises(DataError, match=match):
        Images(path=path, size=12, **settings).load()


def test_a_folder_of_parquet_files_says_what_it_is(tmp_path):
    info = images(tmp_path, classes=3).info
    assert (info.kind, info.image, info.max_length) == ("image", (3, 12, 12), 0)
    assert (info.classes, info.name) == (("0", "1", "2"), "image_folder")
    assert info.rows == {"train": 20, "validation": 6, "test": 8}
    assert info.metrics == ("accuracy", "ece") and info.notes == ()


def test_top5_is_reported_where_there_are_more_than_five_classes(tmp_path):
    assert images(tmp_path, classes=6).info.metrics == ("accuracy", "top5", "ece")


def test_pictures_come_back_as_they_were_stored_and_normalised_on_the_device(tmp_path):
    data = images(tmp_path, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    batch = next(iter(data.batches("test")))
    stored = [np.array(Image.open(file)) for file in _opened(range(200, 205))]
    assert batch["x"].dtype == torch.uint8
    assert torch.equal(batch["x"], torch.tensor(np.stack(stored)).permute(0, 3, 1, 2))
    done = data.on_device(batch)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    torch.testing.assert_close(done["x"], (batch["x"] / 255 - mean) / std)
    assert set(done) == {"x", "labels"} and done["labels"].tolist() == [0, 1, 0, 1, 0]


def _opened(numbers):
    return [io.BytesIO(painted(number)) for number in numbers]


def test_an_evaluation_pass_shows_every_row_once_in_order_on_any_number_of_workers(tmp_path):
    data = images(tmp_path)
    there = images(tmp_path, workers=2)
    one, other = list(data.batches("validation")), list(there.batches("validation"))
    assert [len(batch["x"]) for batch in one] == [5, 1]
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(one, other, strict=True))
    assert data.order("validation").tolist() == list(range(6))


@pytest.mark.parametrize(
    ("mode", "channels", "seen"),
    [("L", None, 1), ("RGB", None, 3), ("L", 3, 3), ("RGB", 1, 1), ("RGBA", None, 3)],
)
def test_pictures_are_converted_to_the_channels_that_are_asked_for(tmp_path, mode, channels, seen):
    data = images(tmp_path, mode=mode, channels=channels)
    assert data.info.image == (seen, 12, 12)
    assert data.sample(2)["x"].shape == (2, seen, 12, 12)


def test_grey_pictures_among_coloured_ones_become_coloured(tmp_path):
    mixed = rows(0, 10)
    mixed["image"][3] = {"bytes": painted(3, "L"), "path": None}
    data = Images(path=folder(tmp_path, train=mixed, test=rows(50, 4)), size=12, limit=None)
    x = torch.cat([batch["x"] for batch in data.batches("train")])
    assert x.shape == (9, 3, 12, 12)  # one went to validation
    assert sum(bool((row[0] == row[1]).all() and (row[1] == row[2]).all()) for row in x) == 1


def test_pictures_of_any_shape_are_resized_and_cut_to_the_size(tmp_path):
    shapes = [(30, 20), (20, 30), (9, 40), (12, 12)]
    cells = [{"bytes": painted(n, shape=shapes[n % 4]), "path": None} for n in range(20)]
    table = {"image": cells, "label": [n % 2 for n in range(20)]}
    data = Images(path=folder(tmp_path, train=table, test=table), size=16, crop_pct=0.8)
    assert next(iter(data.batches("train")))["x"].shape == (18, 3, 16, 16)
    assert next(iter(data.train_batches(1, 0, 1)))["x"].shape == (18, 3, 16, 16)


def test_the_class_names_of_the_file_are_the_classes(tmp_path):
    table = named(rows(0, 20), ["cat", "dog"])
    data = Images(path=folder(tmp_path, train=table, test=table), size=12)
    assert data.info.classes == ("cat", "dog")


def test_the_first_of_several_column_names_that_is_there_is_read(tmp_path):
    table = rows(0, 20) | {"fine": [n % 4 for n in range(20)]}
    table["img"] = table.pop("image")
    place = folder(tmp_path, train=table, test=table)
    data = Images(path=place, size=12, image=("image", "img"), label=("fine_label", "fine"))
    assert data.info.classes == ("0", "1", "2", "3")
    refused("no column 'image'; type dataset.image= one of its columns, label, fine, img", place)


def test_plain_bytes_are_pictures_too(tmp_path):
    table = {"image": [painted(n) for n in range(20)], "label": [n % 2 for n in range(20)]}
    data = Images(path=folder(tmp_path, train=table, test=table), size=12)
    assert data.sample(1)["x"].shape == (1, 3, 12, 12)


def test_without_public_test_labels_validation_is_test_and_a_split_is_carved(tmp_path):
    hidden = rows(200, 8) | {"label": [-1] * 8}
    tables = {"train": rows(0, 40), "validation": rows(100, 6), "test": hidden}
    place = folder(tmp_path, **{k: named(v, ["cat", "dog"]) for k, v in tables.items()})
    data = Images(path=place, size=12)
    assert data.info.rows == {"train": 36, "validation": 4, "test": 6}
    assert data.info.notes == (
        "test is the published validation split: its labels are not public",
        "validation is 4 rows carved out of training by a fixed draw",
    )


def test_the_same_picture_in_two_splits_is_told_and_stays(tmp_path):
    table = rows(0, 20)
    data = Images(
        path=folder(tmp_path, train=table, validation=rows(50, 4), test=rows(18, 6)), size=12
    )
    assert data.info.rows["train"] == 20
    assert data.info.notes == ("2 pictures of train occur again in a later split, and stay",)


def test_folders_of_classes_are_read_in_alphabetical_order(tmp_path):
    place = class_folders(
        tmp_path,
        train={"dog": [1, 2, 3], "cat": [4, 5]},
        val={"cat": [6], "dog": [7]},
        test={"dog": [8], "cat": [9]},
    )
    data = Images(path=place, size=12)
    assert data.info.classes == ("cat", "dog")
    assert data.info.rows == {"train": 5, "validation": 2, "test": 2}
    batch = next(iter(data.batches("test")))
    assert batch["labels"].tolist() == [0, 1]
    expected = np.array(Image.open(tmp_path / "test/cat/9.png"))
    assert torch.equal(batch["x"][0], torch.tensor(expected).permute(2, 0, 1))


def test_pictures_outside_a_class_folder_have_hidden_labels(tmp_path):
    numbers = {"cat": list(range(10)), "dog": list(range(10, 20))}
    place = class_folders(tmp_path, train=numbers, validation={"cat": [30], "dog": [31]})
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "1.png").write_bytes(painted(99))
    notes = Images(path=place, size=12).info.notes
    assert notes[0] == "test is the published validation split: its labels are not public"


def test_the_limit_takes_the_same_rows_every_time(tmp_path):
    first, second = images(tmp_path, limit=4), images(tmp_path, limit=4)
    assert first.info.rows == {"train": 4, "validation": 4, "test": 4}
    assert first.fingerprint() == second.fingerprint() != images(tmp_path).fingerprint()


def test_the_fingerprint_is_of_pictures_and_labels(tmp_path):
    before = images(tmp_path / "a").fingerprint()
    assert images(tmp_path / "b").fingerprint() == before
    other = rows(0, 20)
    other["label"][:2] = [1, 0]
    folder(tmp_path / "b", train=other)
    assert Images(path=str(tmp_path / "b"), size=12).fingerprint() != before
    repainted = rows(0, 20)
    repainted["image"][4]["bytes"] = painted(999)
    folder(tmp_path / "b", train=repainted)
    assert Images(path=str(tmp_path / "b"), size=12).fingerprint() != before


def test_what_does_not_fit_in_memory_is_mapped_and_known_by_its_files(tmp_path, monkeypatch):
    small = images(tmp_path / "data", classes=2)
    batch = next(iter(small.batches("test")))
    monkeypatch.setattr(pictures, "SMALL", 0)
    large = images(tmp_path / "data", classes=2, cache=str(tmp_path / "cache"))
    assert torch.equal(next(iter(large.batches("test")))["x"], batch["x"])
    assert large.splits["test"].digests is None
    assert list((tmp_path / "cache").rglob("*.arrow"))
    assert large.fingerprint() == large.fingerprint() != small.fingerprint()
    folder(tmp_path / "data", test=rows(300, 8))
    changed = Images(path=str(tmp_path / "data"), size=12, cache=str(tmp_path / "cache"))
    assert changed.fingerprint() != large.fingerprint()


def test_a_data_set_travels_to_another_process(tmp_path):
    data = images(tmp_path)
    data.load()
    copy = pickle.loads(pickle.dumps(data))
    one, other = (next(iter(each.batches("test"))) for each in (data, copy))
    assert torch.equal(one["x"], other["x"])


def test_a_sample_is_ready_for_the_model_and_starts_again_at_the_end(tmp_path):
    sample = images(tmp_path, train=3, mixup=0.5, smoothing=0.1, random_erasing=1.0).sample(5)
    assert set(sample) == {"x", "labels"} and sample["x"].dtype == torch.float32
    assert torch.equal(sample["x"][0], sample["x"][3])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_that_is_no_picture_is_named(tmp_path, workers):
    table = rows(0, 20)
    table["image"][17] = {"bytes": b"no picture at all", "path": None}
    data = Images(
        path=folder(tmp_path, train=table, test=rows(50, 4)), size=12, workers=workers, batch_size=9
    )
    with pytest.raises(DataError) as error:
        for split in ("train", "validation"):
            list(data.batches(split))
    assert str(error.value) == (
        "image_folder: train row 17, column 'image' is not a picture that can be decoded"
    )


def test_a_cell_without_bytes_is_named(tmp_path):
    table = rows(0, 20)
    table["image"][2] = {"bytes": None, "path": "nowhere.png"}
    refused("train row 2, column 'image' holds None", folder(tmp_path, train=table, test=table))


def test_a_picture_of_16_bits_is_refused(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.full((12, 12), 40000, np.uint16)).save(stream, "PNG")
    table = rows(0, 4)
    table["image"][0]["bytes"] = stream.getvalue()
    place = folder(tmp_path, train=table, validation=rows(10, 2), test=rows(20, 2))
    refused("train row 0.* has more than 8 bits per channel", place)


def test_folders_that_hold_no_pictures_are_named(tmp_path):
    refused("no such folder", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    refused(r"no train.parquet and no train/<class>/; the folder", str(tmp_path / "empty"))
    (tmp_path / "bare" / "train" / "cat").mkdir(parents=True)
    refused("has no picture", str(tmp_path / "bare"))
    with pytest.raises(DataError, match=r"dataset\.path is not set"):
        Images().load()


def test_columns_that_hold_something_else_are_named(tmp_path):
    words = {"image": ["a", "b"], "label": [0, 1]}
    refused("holds string, not encoded pictures", folder(tmp_path / "a", train=words, test=words))
    scores = rows(0, 4) | {"label": [0.5, 0.1, 0.2, 0.3]}
    refused("holds scores, no classes", folder(tmp_path / "b", train=scores, test=scores))
    lacking = folder(tmp_path / "c", train=rows(0, 4), test={"label": [0, 1]})
    refused("test split has no column 'image'", lacking)
    nothing = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    refused("train split is empty", folder(tmp_path / "d", train=nothing, test=nothing))


def test_a_class_that_training_never_shows_is_an_error(tmp_path):
    tables = {"train": rows(0, 20), "test": rows(50, 6, classes=3)}
    refused("never occurs in training", folder(tmp_path / "a", **tables))
    tables = {split: named(table, ["cat", "dog", "owl"]) for split, table in tables.items()}
    refused("class 'owl' occurs in the test split", folder(tmp_path / "b", **tables))
    numbers = {"cat": [1, 2], "dog": [3, 4]}
    place = class_folders(tmp_path / "c", train=numbers, test={"cat": [5], "owl": [6]})
    refused("class 'owl', which is none of train's \\(cat, dog\\)", place)


def test_every_wrong_argument_is_told_at_once():
    with pytest.raises(ConfigError) as error:
        Images(
            size=0,
            channels=2,
            crop_pct=1.5,
            interpolation="cubic",
            mean=(0.5,),
            flip=True,
            padding=-1,
            scale=(0.5, 0.1),
            rand_augment="random",
            random_erasing=2.0,
            mixup=-1.0,
            smoothing=1.0,
        )
    keys = [line.partition("=")[0] for line in error.value.problems]
    assert keys == [
        *("dataset.size", "dataset.channels", "dataset.crop_pct", "dataset.interpolation"),
        "dataset.mean and dataset.std: give both or neither",
        *("dataset.padding", "dataset.scale", "dataset.padding", "dataset.rand_augment"),
        *("dataset.random_erasing", "dataset.mixup", "dataset.smoothing"),
    ]


def test_constants_of_another_number_of_channels_are_refused(tmp_path):
    data = images(tmp_path, mode="L", mean=(0.1, 0.2, 0.3), std=(0.1, 0.2, 0.3))
    with pytest.raises(ConfigError, match="has 1 channels; give one value"):
        data.load()


def test_a_hub_data_set_is_read_like_a_folder(tmp_path, monkeypatch):
    import datasets

    tables = {"train": rows(0, 40, 2), "test": rows(100, 10, 2)}
    for table in tables.values():
        table["img"] = table.pop("image")
    made = datasets.DatasetDict({k: datasets.Dataset.from_dict(v) for k, v in tables.items()})
    asked = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, **kwargs: asked.append((args, kwargs)) or made
    )
    data = Images(hub="someone/birds", subset="plain", image=("image", "img"), size=12)
    assert data.info.name == "birds" and data.info.rows["validation"] == 4
    assert asked == [(("someone/birds", "plain"), {"revision": None, "cache_dir": None})]


def test_a_hub_that_cannot_be_read_says_what_to_type(monkeypatch):
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        DataError, match=r"birds: cannot be read from the hub \(no route\); or type"
    ):
        Images(hub="someone/birds").load()


def test_the_constants_of_imagenet_are_the_default(tmp_path):
    colour, grey = images(tmp_path / "a"), images(tmp_path / "b", mode="L")
    colour.load(), grey.load()
    assert colour.statistics == (module.MEAN, module.STD)
    assert grey.statistics == (pytest.approx((0.449,)), pytest.approx((0.226,)))
