"""Token streams on disk: a corpus is tokenised once, and no stream need fit in memory."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from gossamer.data.documents import Documents
from gossamer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE = "GOSSAMER_CACHE"  # the environment variable that names another cache folder
FORMAT = "1"  # of the files; another one makes other file names
CHUNK = 2_000_000  # characters that are tokenised together
BLOCK = 1 << 24  # bytes that are read together when a file is checked


@dataclass(eq=False)
class Tokens:
    """A stream of token ids in a file, mapped into memory when it is first indexed."""

    file: Path
    dtype: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The ids at `index` (any shape), int64."""
        return self._mapped[index].astype(np.int64)

    @cached_property
    def _mapped(self) -> np.ndarray:
        return np.memmap(self.file, self.dtype, "r", shape=(self.count,))

    def __getstate__(self) -> dict[str, Any]:
        # a worker process maps the file itself; pickling the map would send its content
        return {"file": self.file, "dtype": self.dtype, "count": self.count}


def cache_folder(cache: str | None) -> Path:
    """`cache`, or $GOSSAMER_CACHE, or ~/.cache/gossamer."""
    return Path(cache or os.environ.get(CACHE) or "~/.cache/gossamer").expanduser()


def tokenised(documents: Documents, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Tokens:
    """The documents as one stream: the tokens of each one (no special ones), then one EOS.

    The stream is kept in `folder` under the digests of the texts and of the tokenizer. The first
    process to ask writes it while others wait; a file that is not whole is written again.

    Raises:
        ConfigError: the tokenizer has no EOS token, or is not of the `tokenizers` library.
        DataError: the folder cannot be written.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "model: its tokenizer has no EOS token, which language data puts after each document; "
            "name a model whose tokenizer has one"
        )
    words = (FORMAT, documents.fingerprint, tokenizer_digest(tokenizer))
    place = folder / "tokens" / hashlib.sha256(" ".join(words).encode()).hexdigest()[:32]
    found = read(place)
    if found is not None:
        return found
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            found = read(place)  # another process may have written it while this one waited
            return found if found is not None else _write(documents, tokenizer, place)
    except OSError as error:
        raise DataError(
            f"the token cache in {folder} cannot be written ({error.strerror or error}); type "
            f"dataset.cache=FOLDER, with another folder"
        ) from error


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of all that decides which ids a text gets."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(
            f"model: {type(tokenizer).__name__} is not a tokenizer of the `tokenizers` library "
            f"(no tokenizer.json), which language data needs"
        )
    content = json.loads(backend.to_str())
    for state in ("truncation", "padding"):  # of the last call, not of the tokenizer
        content.pop(state, None)
    text = json.dumps([content, tokenizer.eos_token_id], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read(place: Path) -> Tokens | None:
    """The stream at `place` if it is there and every byte is as it was written."""
    file, facts = place.with_suffix(".bin"), place.with_suffix(".json")
    try:
        told = json.loads(facts.read_text())
        tokens = Tokens(file, told["dtype"], told["count"])
        if file.stat().st_size != len(tokens) * np.dtype(tokens.dtype).itemsize:
            return None
        return tokens if _checksum(file) == told["crc32"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(documents: Documents, tokenizer: PreTrainedTokenizerBase, place: Path) -> Tokens:
    """The stream first, then its facts: without these it does not count as written."""
    file, facts = place.with_suffix(".bin"), place.with_suffix(".json")
    facts.unlink(missing_ok=True)
    dtype = np.dtype("<u2" if len(tokenizer) <= 1 << 16 else "<u4")
    count = checksum = 0
    part = place.with_suffix(".part")
    with part.open("wb") as out:
        for chunk in chunks(documents):
            ids = np.concatenate(
                [[*row, tokenizer.eos_token_id] for row in encode(tokenizer, chunk)]
            ).astype(dtype)
            count += len(ids)
            checksum = zlib.crc32(ids.tobytes(), checksum)
            out.write(ids.tobytes())
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
    told = {"dtype": dtype.str, "count": count, "crc32": checksum}
    draft = place.with_suffix(".draft")
    draft.write_text(json.dumps(told))
    draft.replace(facts)
    return Tokens(file, dtype.str, count)


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Ids of each text. What looks like a special token in a text is text: no document can end
    itself."""
    return tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]


def chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    """Lists of documents of about CHUNK characters each; a longer document is one by itself."""
    chunk: list[str] = []
    characters = 0
    for text in documents:
        if chunk and characters + len(text) > CHUNK:
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    if chunk:
        yield chunk


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum
