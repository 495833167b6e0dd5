"""Language data as the house uses it: batches, shards, resuming, counts, and refusals."""

import math
from collections import Counter

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from gossamer.data.packing import IGNORED
from gossamer.errors import ConfigError, DataError
from tests.data.corpora import Given, documents, encoded, three, tokenizer


def test_a_split_is_its_documents_with_one_eos_after_each():
    data = encoded(Given(three()))
    tokens = tokenizer()
    for split, texts in three().items():
        batch = data.windows[split][list(range(len(data.windows[split])))]
        stream = batch["input_ids"].flatten().tolist()
        text = "".join(text + tokens.eos_token for text in texts)
        if split == "train":  # the rest after the last full window is not seen
            assert text.startswith(tokens.decode(stream)) and len(stream) > data.tokens(split) - 16
        else:
            assert tokens.decode(stream[: data.tokens(split)]) == text


def test_tokens_and_bytes_are_those_of_the_split():
    texts = three()
    texts["test"][0] = "naïve Ω " * 5
    data = encoded(Given(texts))
    for split in texts:
        assert data.bytes(split) == sum(len(text.encode()) for text in texts[split])
        ids = tokenizer()(texts[split])["input_ids"]
        assert data.tokens(split) == sum(map(len, ids)) + len(texts[split])
    assert data.tokens_per_batch == 4 * 16


def test_a_text_that_spells_the_end_of_text_does_not_end_its_document():
    texts = three()
    texts["test"] = ["one <|endoftext|> two " * 4]
    data = encoded(Given(texts))
    ids = torch.cat([batch["input_ids"].flatten() for batch in data.batches("test")])
    assert (ids[: data.tokens("test")] == tokenizer().eos_token_id).sum() == 1


def test_the_facts_are_of_documents():
    data = Given(three())
    assert data.info.kind == "language" and data.info.unit == "documents"
    assert data.info.rows == {"train": 60, "validation": 9, "test": 11}
    assert data.info.metrics == ("perplexity", "bits_per_byte")
    assert data.info.max_length == 16 and data.info.classes is None and data.info.notes == ()
    assert data.info.batch(64) == 64  # a batch of windows is full, however few the documents
    assert list(data.texts()) == three()["train"]


def test_ranks_share_each_batch_and_resuming_continues_the_order():
    data = encoded(Given(three()))
    whole = list(data.train_batches(3, 0, 12))
    assert all(batch["input_ids"].shape == (4, 16) for batch in whole)
    for rest, batch in zip(data.train_batches(3, 7, 5), whole[7:], strict=True):
        assert torch.equal(rest["input_ids"], batch["input_ids"])
    parts = [list(data.train_batches(3, 0, 12, shard=(rank, 2))) for rank in range(2)]
    for batch, even, odd in zip(whole, *parts, strict=True):
        assert torch.equal(batch["input_ids"][0::2], even["input_ids"])
        assert torch.equal(batch["labels"][1::2], odd["labels"])


def test_worker_processes_read_the_same_batches():
    here = list(encoded(Given(three())).train_batches(3, 0, 3))
    there = list(encoded(Given(three(), workers=2)).train_batches(3, 0, 3))
    assert all(
        torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(here, there, strict=True)
    )


def test_an_epoch_shows_no_window_twice():
    data = encoded(Given(three()))
    batches = data.train_batches(1, 0, data.batches_per_epoch)
    seen = Counter(tuple(row) for batch in batches for row in batch["input_ids"].tolist())
    windows = data.windows["train"][list(range(len(data.windows["train"])))]["input_ids"]
    assert seen <= Counter(map(tuple, windows.tolist()))
    assert seen.total() == len(windows) // 4 * 4


def test_a_pass_is_in_the_order_it_says_and_a_seeded_one_holds_the_same_windows():
    data = encoded(Given(three(), stride=5))
    windows = data.windows["validation"]
    passed = torch.cat([batch["labels"] for batch in data.batches("validation")])
    assert torch.equal(passed, windows[data.order("validation").tolist()]["labels"])
    calibration = torch.cat([batch["input_ids"] for batch in data.batches("train", seed=2)])
    again = torch.cat([batch["input_ids"] for batch in data.batches("train", seed=2)])
    assert torch.equal(calibration, again)
    in_order = torch.cat([batch["input_ids"] for batch in data.batches("train")])
    assert not torch.equal(calibration, in_order)
    assert sorted(calibration.tolist()) == sorted(in_order.tolist())


def test_sample_wraps_around():
    data = encoded(Given(three()))
    count = len(data.windows["train"])
    sample = data.sample(count + 2)["input_ids"]
    assert torch.equal(sample[:2], sample[count:])
    assert torch.equal(sample[:4], data.windows["train"][[0, 1, 2, 3]]["input_ids"])


def test_uniform_guessing_costs_its_bits_whatever_the_stride():
    """nats per scored token / ln 2 · tokens / bytes, for a model that gives each token 1/300."""
    for stride in (16, 5):
        data = encoded(Given(three(), stride=stride))
        scored = sum(int((b["labels"][:, 1:] != IGNORED).sum()) for b in data.batches("test"))
        nats = scored * math.log(300) / scored
        bits = nats / math.log(2) * data.tokens("test") / data.bytes("test")
        assert bits == pytest.approx(math.log2(300) * data.tokens("test") / data.bytes("test"))
        assert scored == data.tokens("test") - (len(data.windows["test"]) if stride == 16 else 1)


def test_limit_takes_the_same_documents_every_time():
    data, again = Given(three(), limit=5), Given(three(), limit=5)
    assert data.info.rows == {"train": 5, "validation": 5, "test": 5}
    assert list(data.texts()) == list(again.texts())
    assert set(data.texts()) < set(three()["train"])
    assert data.fingerprint() == again.fingerprint() != Given(three()).fingerprint()


def test_the_fingerprint_follows_text_and_windows():
    texts = three()
    texts["test"][3] += " "
    marks = {Given(three()).fingerprint(), Given(texts).fingerprint()}
    marks |= {Given(three(), context=8).fingerprint(), Given(three(), stride=2).fingerprint()}
    assert len(marks) == 4


WRONG = {
    "context": ({"context": 1}, "dataset.context=1: at least 2"),
    "stride": ({"stride": 0}, "dataset.stride=0: at least 1"),
    "gaps": ({"stride": 17}, "dataset.stride=17: at most dataset.context=16"),
    "batch": ({"batch_size": 0}, "dataset.batch_size=0: at least 1"),
    "limit": ({"limit": 0}, "dataset.limit=0: at least 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_impossible_arguments_are_refused_by_key(case):
    arguments, line = WRONG[case]
    with pytest.raises(ConfigError, match=line):
        Given(three(), **arguments)


def test_a_training_split_shorter_than_a_batch_says_what_to_lower():
    short = {**three(), "train": documents(0, 1)}
    with pytest.raises(DataError, match=r"10 tokens, 1 windows .*type dataset.batch_size=1$"):
        encoded(Given(short, context=8))
    with pytest.raises(DataError, match=r"0 windows .*type dataset.context=2$"):
        encoded(Given(short, context=64))
    encoded(Given(short, context=2))  # what was to be typed helps
    with pytest.raises(DataError, match=r"or a higher dataset.limit"):
        encoded(Given(three(), limit=1, context=64))


def test_batches_before_a_tokenizer_are_a_bug():
    with pytest.raises(RuntimeError, match="encode"):
        Given(three()).sample(2)


def test_a_tokenizer_without_eos_is_refused():
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer)
    with pytest.raises(ConfigError, match="no EOS token"):
        Given(three()).encode(bare)
