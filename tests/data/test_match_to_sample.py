"""Match to sample: the picture holds its answer, in one place, and it is the same picture on any
number of workers."""

import time

import pytest
import torch

from gossamer.data.match_to_sample import COLORS, MatchToSample, glyphs_drawn
from gossamer.errors import ConfigError

SMALL = {"train": 2000, "validation": 300, "test": 500, "bursty": 0.0}
SPLITS = {"train": 2000, "validation": 300, "test": 500}
LARGE = {"rows": 14, "columns": 14, "tile": 16, "batch_size": 16}
TILES = 17


def tiles_of(pictures, tile=4):
    """(glyphs (B, tiles, 16) bool, colours (B, tiles, 3) to 255) of clean pictures (B, 3, H, W)."""
    inner = pictures[:, :, tile // 8 :: tile // 4, tile // 8 :: tile // 4].int()
    tiles = inner.unfold(2, 4, 4).unfold(3, 4, 4)  # (B, 3, rows, columns, 4, 4)
    tiles = tiles.flatten(4).permute(0, 2, 3, 1, 4).flatten(1, 2)  # (B, tiles, 3, 16)
    return tiles.amax(2) > 0, tiles.amax(3)


def read(pictures, tile=4):
    """What a careful reader of clean pictures (B, 3, H, W) finds: (places of the cues, places of
    their matches, names of the matches' colours), one match for every cue or an assertion fails."""
    glyphs, colors = tiles_of(pictures, tile)
    names = {value: name for name, value in COLORS.items()}
    cues = (colors == 255).all(2)
    assert (cues.sum(1) == 1).all()
    alike = (glyphs == glyphs[cues][:, None]).all(2) & ~cues
    assert (alike.sum(1) == 1).all()
    found = [names[tuple(color)] for color in colors[alike].tolist()]
    return cues.int().argmax(1), alike.int().argmax(1), found


def whole(rows):
    return rows[range(len(rows))]


@pytest.fixture(scope="module")
def data():
    return MatchToSample(**SMALL)


@pytest.mark.parametrize("split", SPLITS)
def test_every_picture_holds_its_answer_in_exactly_one_place(data, split):
    batch = whole(data.rows(split))
    assert batch["x"].shape == (SPLITS[split], 3, 4, 68) and batch["x"].dtype == torch.uint8
    assert batch["labels"].dtype == torch.int64
    *_, names = read(batch["x"])
    assert names == [data.info.classes[label] for label in batch["labels"]]


def test_so_it_is_at_224_pixels():
    data = MatchToSample(**LARGE)
    assert data.info.image == (3, 224, 224)
    batch = data.rows("test")[range(40)]
    assert batch["x"].shape == (40, 3, 224, 224)
    *_, names = read(batch["x"], tile=16)
    assert names == [data.info.classes[label] for label in batch["labels"]]
    assert data.on_device(batch)["x"].shape == (40, 3, 224, 224)


def test_a_tile_shows_one_glyph_enlarged():
    fine, coarse = (MatchToSample(tile=tile).rows("test")[range(9)]["x"] for tile in (12, 4))
    enlarged = coarse.repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert torch.equal(fine, enlarged)


def test_rows_of_tiles_lie_below_one_another():
    square = MatchToSample(rows=2, columns=3).rows("test")[range(9)]["x"]
    line = MatchToSample(rows=1, columns=6).rows("test")[range(9)]["x"]
    assert torch.equal(torch.cat([square[:, :, :4], square[:, :, 4:]], 3), line)


def test_cue_match_and_answer_are_anywhere_and_tell_nothing_of_each_other(data):
    batch = whole(data.rows("train"))
    cues, matches, _ = read(batch["x"])
    pairs = torch.zeros(TILES, TILES)
    pairs.index_put_((cues, matches), torch.ones(len(cues)), accumulate=True)
    expected = len(cues) / (TILES * (TILES - 1))
    aside = pairs[~torch.eye(TILES, dtype=torch.bool)]
    assert float((aside - expected).square().sum() / expected) < 350  # chi², 271 degrees: 1 in 1000
    counts = torch.bincount(batch["labels"], minlength=6)
    assert float((counts - len(cues) / 6).square().sum() / (len(cues) / 6)) < 20.5  # 5 degrees
    for place in (cues, matches):
        means = torch.stack([(batch["labels"][place == t] < 3).float().mean() for t in range(17)])
        assert float((means - 0.5).abs().max()) < 0.2


def test_the_colours_of_a_picture_do_not_betray_its_answer(data):
    """Whoever names the most frequent colour is right no more often than chance allows."""
    batch = whole(data.rows("train"))
    lit = (batch["x"] == 255).unfold(3, 4, 4).any(2).any(-1).permute(0, 2, 1)  # (B, tiles, 3)
    values = torch.tensor(list(COLORS.values())) == 255  # (6, 3)
    counts = (lit[:, :, None] == values).all(3).sum(1)  # (B, 6), the cue counts nowhere
    assert (counts.sum(1) == TILES - 1).all()
    right = (counts.argmax(1) == batch["labels"]).float().mean()
    assert 0.2 < float(right) < 0.4


def test_glyphs_are_half_ink_and_clearly_different():
    glyphs = glyphs_drawn().flatten(1).int()
    assert (glyphs.sum(1) == 8).all()
    apart = (glyphs[:, None] != glyphs).sum(2) + 16 * torch.eye(len(glyphs), dtype=torch.int64)
    assert int(apart.min()) >= 6


def test_all_glyphs_and_colours_that_were_asked_for_occur_and_no_others():
    data = MatchToSample(glyphs=5, colors=3, **SMALL)
    x = data.rows("train")[range(400)]["x"]
    tiles = x.amax(1).unfold(2, 4, 4).permute(0, 2, 1, 3).flatten(2) // 255  # (B, 17, 16)
    seen = {tuple(tile) for tile in tiles.flatten(0, 1).tolist()}
    assert seen == {tuple(one) for one in glyphs_drawn()[:5].flatten(1).tolist()}
    assert data.info.classes == ("red", "green", "blue")


def test_the_splits_share_no_picture(data):
    pictures = [row for split in SPLITS for row in whole(data.rows(split))["x"].flatten(1)]
    assert len({bytes(row.numpy()) for row in pictures}) == sum(SPLITS.values())
    draws = torch.cat([whole(data.rows(split))["draws"] for split in SPLITS])
    assert len(draws.unique()) == sum(SPLITS.values())


def test_a_row_is_the_same_picture_in_any_batch_and_on_any_worker(data):
    rows = [7, 1999, 3]
    batch = data.on_device(data.rows("train")[rows])
    for place, row in enumerate(rows):
        alone = data.on_device(data.rows("train")[[row]])
        assert torch.equal(alone["x"][0], batch["x"][place])
        assert alone["labels"][0] == batch["labels"][place]
    shared = MatchToSample(batch_size=100, workers=2, **SMALL)
    single = MatchToSample(batch_size=100, **SMALL)
    pairs = zip(single.train_batches(5, 3, 4), shared.train_batches(5, 3, 4), strict=True)
    for one, two in pairs:
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_ranks_share_a_batch_and_a_resumed_run_goes_on_with_it(data):
    (third,) = data.train_batches(1, 2, 1)
    last = list(data.train_batches(1, 0, 3))[2]
    assert torch.equal(third["x"], last["x"])
    halves = [next(iter(data.train_batches(1, 2, 1, (rank, 2)))) for rank in (0, 1)]
    for rank, half in enumerate(halves):
        assert torch.equal(half["x"], third["x"][rank::2])


def test_noise_is_normal_of_the_size_asked_for_and_fixed(data):
    clean = MatchToSample(noise=0.0, **SMALL)
    rows = data.rows("test")[range(100)]
    left = (data.on_device(rows)["x"] - clean.on_device(rows)["x"]) * 0.42
    assert abs(float(left.mean())) < 0.002 and abs(float(left.std()) - 0.1) < 0.002
    assert abs(float(left[0].flatten() @ left[1].flatten()) / left[0].numel()) < 0.002
    assert data.on_device(rows).keys() == {"x", "labels"}
    assert torch.equal(data.on_device(rows)["x"], data.on_device(rows)["x"])


def test_what_a_model_sees_has_about_mean_zero_and_deviation_one(data):
    x = data.on_device(whole(data.rows("test")))["x"]
    assert x.dtype == torch.float32
    assert abs(float(x.mean())) < 0.05 and abs(float(x.std()) - 1) < 0.05


def test_a_sample_is_ready_for_a_model_and_may_exceed_the_split():
    few = MatchToSample(train=3)
    sample = few.sample(8)
    assert sample["x"].shape == (8, 3, 4, 68)
    assert torch.equal(sample["x"][0], sample["x"][3])


def test_rows_that_nobody_asks_for_cost_nothing_and_others_little():
    huge = MatchToSample(train=10**8)
    rows = huge.rows("train")
    rows[[0]]
    start = time.process_time()
    assert rows[range(10**8 - 256, 10**8)]["x"].shape == (256, 3, 4, 68)
    assert time.process_time() - start < 0.1  # a millisecond or two


def test_the_fingerprint_is_of_what_decides_the_pictures(data):
    same = MatchToSample(batch_size=3, workers=1, **SMALL)
    assert data.fingerprint() == same.fingerprint()
    others = [
        {"rows": 2},
        {"columns": 9},
        {"tile": 8},
        {"glyphs": 6},
        {"colors": 4},
        {"noise": 0.2},
    ]
    prints = {MatchToSample(**{**SMALL, **other}).fingerprint() for other in others}
    prints |= {MatchToSample(**{**SMALL, "test": 501}).fingerprint(), data.fingerprint()}
    assert len(prints) == len(others) + 2


def test_bursty_pictures_hold_many_cues_and_matches_of_one_colour_that_is_the_answer():
    data = MatchToSample(bursty=1.0, train=500)
    batch = whole(data.rows("train"))
    glyphs, colors = tiles_of(batch["x"])
    cues = (colors == 255).all(2)
    assert (cues.sum(1) == 4).all()  # of 17, and three kinds more
    values = torch.tensor(list(COLORS.values()))
    answers = values[batch["labels"]]  # (B, 3)
    for row in range(500):
        (glyph,) = glyphs[row][cues[row]].unique(dim=0)
        alike = (glyphs[row] == glyph).all(1) & ~cues[row]
        assert (colors[row][alike] == answers[row]).all() and 4 <= int(alike.sum()) <= 5
        assert not (colors[row][~alike] == answers[row]).all(1).any()
    assert len(batch["labels"].unique()) == 6


def test_a_share_of_the_training_pictures_is_bursty_and_none_of_the_others():
    data = MatchToSample(bursty=0.3, train=2000)
    shares = {}
    for split in SPLITS:
        _, colors = tiles_of(data.rows(split)[range(1000)]["x"])
        shares[split] = float(((colors == 255).all(2).sum(1) > 1).float().mean())
    assert shares["validation"] == shares["test"] == 0 and 0.25 < shares["train"] < 0.35
    plain = MatchToSample(bursty=0.0, train=2000).rows("train")[range(1000)]
    mixed = data.rows("train")[range(1000)]
    alike = (plain["x"] == mixed["x"]).flatten(1).all(1)
    assert abs(float(alike.float().mean()) - 1 + shares["train"]) < 1e-6  # the rest is as it was


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"rows": 0}, "dataset.rows=0: at least 1"),
        ({"columns": 2}, "dataset.rows=1 dataset.columns=2: at least 3 tiles"),
        ({"tile": 6}, "dataset.tile=6: a multiple of 4"),
        ({"tile": 0}, "dataset.tile=0: a multiple of 4"),
        ({"glyphs": 1}, "dataset.glyphs=1: at least 2"),
        ({"glyphs": 49}, "dataset.glyphs=49: at most 48"),
        ({"colors": 7}, "dataset.colors=7: at most 6"),
        ({"bursty": 1.5}, "dataset.bursty=1.5: from 0 to 1"),
        ({"noise": -0.1}, "dataset.noise=-0.1: at least 0"),
        ({"train": 0}, "dataset.train=0: at least 1"),
        ({"test": 10**8 + 1}, "dataset.test=100000001: at most 100000000"),
        ({"batch_size": 0}, "dataset.batch_size=0: at least 1"),
    ],
)
def test_wrong_arguments_are_told(arguments, line):
    with pytest.raises(ConfigError) as error:
        MatchToSample(**arguments)
    assert line in str(error.value)


def test_all_wrong_arguments_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        MatchToSample(tile=5, colors=9, workers=-1)
    assert all(key in str(error.value) for key in ("tile=5", "colors=9", "workers=-1"))
