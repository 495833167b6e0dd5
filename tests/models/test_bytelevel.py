"""The byte-level BPE: lossless, of the asked size, the same in every process."""

import hashlib
import os
import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import ConfigError
from gossamer.models import bytelevel
from gossamer.models.bytelevel import fixed_sample, train_bpe
from tests.data.corpora import documents

DIGEST = """
import hashlib, sysconfig
from pathlib import Path
from gossamer.models.bytelevel import train_bpe
folder = Path(sysconfig.get_paths()["stdlib"])
texts = [file.read_text("utf-8") for file in sorted(folder.glob("a*.py"))]
text = train_bpe(texts, 1500).backend_tokenizer.to_str()
print(hashlib.sha256(text.encode()).hexdigest())
"""


@cache
def small():
    return train_bpe(documents(0, 200), 400)


@given(st.text())
def test_decoding_gives_every_text_back(text):
    assert small().decode(small()(text)["input_ids"]) == text


@given(st.text(alphabet=" \n\r\t'a1é<|endoftext>", max_size=60))
def test_white_space_and_signs_come_back_as_they_were(text):
    assert small().decode(small()(text)["input_ids"]) == text


def test_sizes_and_special_tokens():
    tokenizer = small()
    assert len(tokenizer) == 400
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == tokenizer.pad_token_id == 0
    assert tokenizer.unk_token is None
    assert tokenizer("sparse")["input_ids"] == tokenizer.encode("sparse", add_special_tokens=False)
    assert len(train_bpe(["ab"], 1000)) == 258  # there is no more to learn
    assert len(train_bpe([], 257)) == 257


def test_frequent_words_become_pieces():
    assert small().tokenize("Document sparse") == ["Document", "Ġsparse"]


@pytest.mark.parametrize("size", [0, 256])
def test_a_vocabulary_without_room_for_the_bytes_is_refused(size):
    with pytest.raises(ConfigError, match=f"model.vocabulary={size}: .* need 257 pieces"):
        train_bpe(["a"], size)


def test_processes_learn_the_same_vocabulary():
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=os.environ | {"PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "false"), ("2", "true"))
    }
    assert len(digests) == 1


def test_a_sample_is_drawn_by_digest_and_not_by_place(monkeypatch):
    texts = documents(0, 100)
    some = fixed_sample(texts, 1000)
    assert 900 < sum(map(len, some)) <= 1000
    assert {*fixed_sample(reversed(texts), 1000)} == {*some}
    assert some == [text for text in texts if text in some]
    limit = max(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in some)
    better = [t for t in texts if hashlib.blake2b(t.encode(), digest_size=8).digest() < limit]
    assert len(better) == len(some) - 1
    assert fixed_sample(texts, 10**6) == texts
    monkeypatch.setattr(bytelevel, "PIECE", 7)
    assert "".join(fixed_sample(texts, 10**6)) == "".join(texts)
