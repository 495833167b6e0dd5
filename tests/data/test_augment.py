"""Training pictures: a function of (seed, batch, row); mixed targets; nothing else is disturbed."""

import random

import numpy as np
import pytest
import torch

from gossamer.data import augment, finishing
from gossamer.data.augment import Augmentation, erased_box, generators_untouched, mixing
from tests.data.painted import images

EVERYTHING = {
    "flip": True,
    "padding": 2,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "random_erasing": 0.5,
    "mixup": 0.8,
    "cutmix": 1.0,
    "smoothing": 0.1,
}


def batches(data, first=0, count=6, seed=3, **shard):
    """As the model sees them."""
    return [data.on_device(batch) for batch in data.train_batches(seed, first, count, **shard)]


def equal(one, other) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.mark.parametrize("settings", [EVERYTHING, {"scale": (0.2, 1.0)}], ids=["all", "scale"])
def test_batches_depend_on_seed_and_number_alone(place, settings):
    data = images(place, **settings)
    whole = batches(data)
    random.seed(7), np.random.seed(7), torch.manual_seed(7)  # which must not matter
    assert equal(batches(images(place, **settings)), whole)
    assert equal(batches(data, first=2, count=4), whole[2:])  # resumed
    assert equal(batches(images(place, workers=2, **settings)), whole)
    assert not equal(batches(data, seed=4), whole)


def test_a_row_is_drawn_anew_in_every_epoch(place):
    data = images(place, train=5, padding=2)
    one, other = data.train_batches(1, 0, 2)
    order, again = (batch["labels"].argsort(stable=True) for batch in (one, other))
    assert not torch.equal(one["x"][order], other["x"][again])


@pytest.mark.parametrize("key", ["x", "labels", "erased", "draws"])
def test_the_devices_parts_of_a_batch_are_the_whole_batch(place, key):
    data = images(place, **EVERYTHING | {"batch_size": 6})
    (whole,) = data.train_batches(3, 1, 1)
    parts = [next(iter(data.train_batches(3, 1, 1, (rank, 2))))[key] for rank in (0, 1)]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), whole[key])


def test_all_devices_mix_by_the_same_draw(place):
    data = images(place, **EVERYTHING | {"batch_size": 6})
    parts = [next(iter(data.train_batches(3, 1, 1, (rank, 2)))) for rank in (0, 1)]
    assert all(torch.equal(parts[0][key], parts[1][key]) for key in ("kept", "cut"))


@pytest.mark.parametrize(
    "settings",
    [{"flip": True}, {"padding": 3}, {"scale": (0.1, 0.5)}, {"rand_augment": "rand-m9-n3-p1"}],
    ids=lambda one: next(iter(one)),
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_augmentation_changes_training_pictures_and_no_others(tmp_path, settings, mode):
    plain, drawn = (images(tmp_path, mode=mode, **one) for one in ({}, settings))
    seen = [torch.cat([b["x"] for b in data.train_batches(1, 0, 4)]) for data in (plain, drawn)]
    assert seen[0].shape == seen[1].shape and seen[1].dtype == torch.uint8
    changed = (seen[0] != seen[1]).flatten(1).any(1)
    assert changed.sum() >= 4
    for split in ("train", "validation", "test"):
        for one, other in zip(
            plain.batches(split, seed=5), drawn.batches(split, seed=5), strict=True
        ):
            assert torch.equal(one["x"], other["x"])


def test_without_augmentation_training_pictures_are_those_of_evaluation(place):
    data = images(place)
    known = {row.numpy().tobytes() for batch in data.batches("train") for row in batch["x"]}
    assert all(
        row.numpy().tobytes() in known for b in data.train_batches(1, 0, 4) for row in b["x"]
    )
    assert all(batch.keys() == {"x", "labels"} for batch in batches(data))


def test_a_mirrored_picture_is_its_mirror_image(place):
    plain, mirrored = (images(place, flip=flip) for flip in (False, True))
    pairs = zip(plain.train_batches(1, 0, 4), mirrored.train_batches(1, 0, 4), strict=True)
    same = flipped = 0
    for one, other in pairs:
        for a, b in zip(one["x"], other["x"], strict=True):
            same += torch.equal(a, b)
            flipped += torch.equal(a.flip(2), b)
    assert same + flipped == 20 and same > 2 and flipped > 2


def test_reading_takes_nothing_from_the_global_generators(place):
    data = images(place, **EVERYTHING)

    def draw():
        return random.random(), np.random.random(), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    batches(data), list(data.batches("test")), data.sample(3)
    assert draw() == expected


def test_generators_are_put_back_after_an_error():
    before = torch.get_rng_state(), random.getstate()
    with pytest.raises(ValueError), generators_untouched():
        augment.seed_row(1, 2, 3)
        raise ValueError
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


# Mixing: on the device, by what came with the batch.


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("settings", [{"mixup": 0.8}, {"cutmix": 1.0}], ids=["mixup", "cutmix"])
def test_targets_are_the_mixed_labels_and_add_to_one(place, settings, smoothing):
    data = images(place, classes=4, smoothing=smoothing, **settings)
    for raw in data.train_batches(1, 0, 6):
        batch = data.on_device(raw)
        kept = raw["kept"][:, None]
        hot = torch.eye(4)[raw["labels"]] * (1 - smoothing) + smoothing / 4
        torch.testing.assert_close(batch["targets"], kept * hot + (1 - kept) * hot.flip(0))
        torch.testing.assert_close(batch["targets"].sum(1), torch.ones(5))
        assert torch.equal(batch["labels"], raw["labels"])
        assert set(batch) == {"x", "labels", "targets"}


def test_mixup_blends_a_row_with_the_one_across(place):
    data = images(place, mixup=0.8)
    for raw in data.train_batches(1, 0, 4):
        x = finishing.normalised(raw["x"], *data.statistics)
        kept = float(raw["kept"][0])
        assert 0 < kept < 1
        expected = kept * x + (1 - kept) * x.flip(0)
        torch.testing.assert_close(data.on_device(raw)["x"], expected, atol=1e-5, rtol=1e-5)


def test_cutmix_keeps_the_share_of_pixels_that_the_targets_say(place):
    data = images(place, cutmix=1.0)
    shares = []
    for raw in data.train_batches(1, 0, 12):
        x = finishing.normalised(raw["x"], *data.statistics)
        mixed = data.on_device(raw)["x"]
        own, other = (mixed == x).all(1), (mixed == x.flip(0)).all(1)  # (B, H, W)
        assert bool((own | other).all())
        shares.append(float(raw["kept"][0]))
        assert float(own[0].float().mean()) == pytest.approx(shares[-1], abs=1e-6)
    assert len(set(shares)) > 6


def test_mixing_needs_no_label(place):
    data = images(place, mixup=0.8, smoothing=0.1)
    (raw,) = data.train_batches(1, 0, 1)
    with_labels = data.on_device(raw)
    without = data.on_device({key: value for key, value in raw.items() if key != "labels"})
    assert set(without) == {"x"} and torch.equal(without["x"], with_labels["x"])


def test_smoothing_alone_changes_targets_only(place):
    data, plain = images(place, smoothing=0.2), images(place)
    one, other = batches(data)[0], batches(plain)[0]
    assert torch.equal(one["x"], other["x"]) and "targets" not in other
    assert sorted(one["targets"][0].tolist()) == pytest.approx([0.1, 0.9])


def test_with_both_some_batches_are_cut_and_some_blended():
    both = Augmentation(mixup=0.8, cutmix=1.0)
    drawn = [mixing(both, 1, number, 32) for number in range(200)]
    cut = sum(box != (0, 0, 0, 0) for _, box in drawn)
    assert 70 < cut < 130
    assert mixing(both, 1, 5, 32) == drawn[5] != mixing(both, 2, 5, 32)


def test_a_cut_box_lies_inside_the_picture_and_has_the_area_that_is_told():
    for number in range(300):
        kept, (top, bottom, left, right) = mixing(Augmentation(cutmix=1.0), 1, number, 16)
        assert 0 <= top <= bottom <= 16 and 0 <= left <= right <= 16
        assert kept == pytest.approx(1 - (bottom - top) * (right - left) / 256)


# Random erasing.


def test_an_erased_box_takes_the_area_that_the_paper_names():
    with generators_untouched():
        augment.seed_row(0, 0, 0)
        boxes = np.array([erased_box(0.25, 64) for _ in range(4000)])
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    some = height > 0
    assert 0.2 < some.mean() < 0.3
    area = (height * width / 64**2)[some]
    assert area.min() > 0.015 and area.max() < 0.35
    assert boxes.min() >= 0 and boxes.max() <= 64


def test_pixels_inside_the_box_become_noise_and_no_others_change(place):
    erased, plain = images(place, random_erasing=1.0), images(place)
    for raw, whole in zip(
        erased.train_batches(1, 0, 4), batches(plain, seed=1, count=4), strict=True
    ):
        seen = erased.on_device(raw)["x"]
        for row, (top, bottom, left, right) in enumerate(raw["erased"].tolist()):
            assert bottom > top and right > left
            outside = torch.ones(12, 12, dtype=torch.bool)
            outside[top:bottom, left:right] = False
            assert torch.equal(seen[row][:, outside], whole["x"][row][:, outside])
            assert not (seen[row] == whole["x"][row])[:, ~outside].any()


def test_noise_is_standard_normal_and_a_function_of_its_draw_alone():
    draws = torch.tensor([3, 2**62 + 5, 17])
    seen = finishing.noise(draws, 200_000)
    assert torch.equal(finishing.noise(draws[1:2], 200_000)[0], seen[1])
    assert torch.equal(finishing.noise(draws, 500), seen[:, :500])
    assert seen.isfinite().all()
    torch.testing.assert_close(seen.mean(1), torch.zeros(3), atol=0.01, rtol=0)
    torch.testing.assert_close(seen.std(1), torch.ones(3), atol=0.01, rtol=0)
    torch.testing.assert_close((seen**4).mean(1), torch.full((3,), 3.0), atol=0.1, rtol=0)
    correlations = torch.corrcoef(seen)
    assert (correlations - torch.eye(3)).abs().max() < 0.01
    assert float((seen[0, 1:] * seen[0, :-1]).mean()) == pytest.approx(0, abs=0.01)
