"""The token cache: written once, used by whoever asks next, never if it is not whole."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gossamer.data import tokens
from gossamer.data.documents import Documents
from gossamer.errors import ConfigError, DataError
from gossamer.models.bytelevel import train_bpe
from tests.data.corpora import documents, tokenizer


@pytest.fixture
def stream(tmp_path):
    return tokens.tokenised(Documents.of(documents(0, 30)), tokenizer(), tmp_path)


def content(stream):
    return stream[np.arange(len(stream))]


def never(*arguments):
    raise AssertionError("tokenised again")


def test_a_second_reader_does_not_tokenise(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "encode", never)
    again = tokens.tokenised(Documents.of(documents(0, 30)), tokenizer(), tmp_path)
    assert np.array_equal(content(again), content(stream))
    assert stream.file.stat().st_size == 2 * len(stream)


def test_of_several_that_ask_at_once_one_tokenises(tmp_path, monkeypatch):
    calls = []

    def slow(tokenizer, texts, encode=tokens.encode):
        calls.append(texts)
        time.sleep(0.2)
        return encode(tokenizer, texts)

    monkeypatch.setattr(tokens, "encode", slow)
    texts = Documents.of(documents(0, 30))
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(tokens.tokenised, texts, tokenizer(), tmp_path) for _ in range(3)]
        streams = [content(each.result()) for each in asked]
    assert len(calls) == 1
    assert all(np.array_equal(one, streams[0]) for one in streams)


def test_another_text_or_tokenizer_has_a_stream_of_its_own(stream, tmp_path):
    other = tokens.tokenised(Documents.of(documents(0, 29)), tokenizer(), tmp_path)
    coarse = tokens.tokenised(Documents.of(documents(0, 30)), train_bpe([], 257), tmp_path)
    assert len({stream.file, other.file, coarse.file}) == 3
    assert len(coarse) > len(stream) > len(other)


def test_chunks_change_nothing(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "CHUNK", 100)
    again = tokens.tokenised(Documents.of(documents(0, 30)), tokenizer(), tmp_path / "other")
    assert np.array_equal(content(again), content(stream))
    assert [*map(len, tokens.chunks(["a" * 60, "b" * 60, "c" * 300, "d"]))] == [1, 1, 1, 1]
    assert [*map(len, tokens.chunks(["a" * 60, "b" * 40]))] == [2]


def cut(stream):
    stream.file.write_bytes(stream.file.read_bytes()[:-2])


def flip(stream):
    whole = bytearray(stream.file.read_bytes())
    whole[5] ^= 1
    stream.file.write_bytes(whole)


def no_facts(stream):
    stream.file.with_suffix(".json").unlink()


def half_facts(stream):
    facts = stream.file.with_suffix(".json")
    facts.write_text(facts.read_text()[:9])


def other_facts(stream):
    stream.file.with_suffix(".json").write_text(json.dumps(["count"]))


@pytest.mark.parametrize("damage", [cut, flip, no_facts, half_facts, other_facts])
def test_a_damaged_stream_is_written_again(stream, tmp_path, damage):
    expected = content(stream).copy()
    damage(stream)
    assert tokens.read(stream.file) is None
    again = tokens.tokenised(Documents.of(documents(0, 30)), tokenizer(), tmp_path)
    assert np.array_equal(content(again), expected)
    assert tokens.read(stream.file) is not None


def test_an_interrupted_writer_leaves_nothing_that_is_used(tmp_path, monkeypatch):
    calls = []

    def dying(tokenizer, texts, encode=tokens.encode):
        calls.append(texts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(tokenizer, texts)

    texts = Documents.of(documents(0, 30))
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "CHUNK", 100)
        patch.setattr(tokens, "encode", dying)
        with pytest.raises(KeyboardInterrupt):
            tokens.tokenised(texts, tokenizer(), tmp_path)
    whole = tokens.tokenised(texts, tokenizer(), tmp_path)
    assert (content(whole) == tokenizer().eos_token_id).sum() == 30


def test_large_vocabularies_have_wider_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(type(tokenizer()), "__len__", lambda self: (1 << 16) + 1)
    stream = tokens.tokenised(Documents.of(documents(0, 3)), tokenizer(), tmp_path)
    assert stream.dtype == "<u4" and content(stream).dtype == np.int64


def test_a_folder_that_cannot_be_made_names_the_key(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"dataset.cache=FOLDER"):
        tokens.tokenised(Documents.of(["a"]), tokenizer(), tmp_path / "file")


def test_what_the_last_call_padded_is_not_part_of_the_tokenizer():
    before = tokens.tokenizer_digest(tokenizer())
    tokenizer()(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert tokens.tokenizer_digest(tokenizer()) == before


def test_a_tokenizer_of_another_kind_is_refused():
    class Slow:
        eos_token_id = 0

    with pytest.raises(ConfigError, match="Slow is not a tokenizer of the `tokenizers` library"):
        tokens.tokenizer_digest(Slow())
