"""Documents of language data: read as a stream, told apart by digests, in one split only.

No split need fit in memory: a text is read again each time its documents are iterated, and what is
kept of it in between is an index of 32 bytes per document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import torch

from gossamer.data.info import SPLITS
from gossamer.errors import DataError
from gossamer.seeds import generator

# key: of the text without surrounding white space; digest: of the text as it is; its UTF-8 bytes
INDEX = np.dtype([("key", "<u8"), ("digest", "<u8", (2,)), ("bytes", "<i8")])


@dataclass(frozen=True, eq=False)
class Documents:
    """Some of the documents of a source, in its order."""

    source: Iterable[str]  # can be iterated again and again
    index: np.ndarray  # (documents of the source,) INDEX
    kept: np.ndarray  # (documents of the source,) bool

    @classmethod
    def of(cls, source: Iterable[str]) -> Documents:
        """All documents of a source, which is read once for its index."""
        index = np.fromiter(map(entry, source), INDEX)
        return cls(source, index, np.ones(len(index), bool))

    def __len__(self) -> int:
        return int(self.kept.sum())

    def __iter__(self) -> Iterator[str]:
        return compress(self.source, self.kept)

    def only(self, wanted: np.ndarray) -> Documents:
        """Those of the kept documents where `wanted` (len(self),) is true."""
        kept = self.kept.copy()
        kept[kept] = wanted
        return replace(self, kept=kept)

    @property
    def keys(self) -> np.ndarray:
        """(len(self),) uint64; equal where two texts are the same but for white space around."""
        return self.index["key"][self.kept]

    @property
    def size(self) -> int:
        """UTF-8 bytes of all texts."""
        return int(self.index["bytes"][self.kept].sum())

    @property
    def fingerprint(self) -> str:
        """sha256 over the texts' digests, in order."""
        return hashlib.sha256(self.index[self.kept].tobytes()).hexdigest()


def entry(text: str) -> tuple[int, tuple[int, int], int]:
    """A document's entry in the index."""
    content = text.encode()
    first, second = np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), "<u8")
    key = hashlib.blake2b(text.strip().encode(), digest_size=8).digest()
    return int.from_bytes(key, "little"), (int(first), int(second)), len(content)


NOTHING = entry("")[0]  # the key of a text that is only white space


def choose_documents(
    name: str, published: Mapping[str, Documents], most: int | None = None
) -> tuple[dict[str, Documents], list[str]]:
    """train / validation / test out of what was published, and a note on everything done.

    Texts without a letter are left out. Without a test split the validation split is test; what is
    then missing is carved out of the training documents by a fixed draw that no run's seed changes:
    as many documents as the other held-out split has (a twentieth of training if there is none), a
    tenth of training and `most` at most. A document that occurs in a later split is left out of
    the earlier one: training gives way, then validation.

    Raises:
        DataError: no training split, or a split without a document.
    """
    splits, notes = dict(published), []
    if "train" not in splits:
        raise DataError(f"{name}: no train split; there are {', '.join(splits) or 'none'}")
    for split, documents in splits.items():
        splits[split] = documents.only(documents.keys != NOTHING)
        if empty := len(documents) - len(splits[split]):
            notes.append(f"{empty} empty documents left out of {split}")
    if "test" not in splits and "validation" in splits:
        notes.append("test is the published validation split: none was published")
        splits["test"] = splits.pop("validation")
    for split in ("test", "validation"):
        if split not in splits:
            splits["train"], splits[split] = _carve(name, splits, split, most)
            notes.append(
                f"{split} is {len(splits[split])} documents carved out of training by a fixed draw"
            )
    later = splits["test"].keys
    for split in ("validation", "train"):
        shared = np.isin(splits[split].keys, later)
        if count := int(shared.sum()):
            splits[split] = splits[split].only(~shared)
            notes.append(f"{count} documents left out of {split}: they occur in a later split")
        later = np.concatenate([later, splits[split].keys])
    for split in SPLITS:
        if not len(splits[split]):
            raise DataError(f"{name}: the {split} split has no document")
    return {split: splits[split] for split in SPLITS}, notes


def _carve(
    name: str, splits: Mapping[str, Documents], split: str, most: int | None
) -> tuple[Documents, Documents]:
    """(what stays in training, the carved split)."""
    train = splits["train"]
    if len(train) < 10:
        raise DataError(
            f"{name}: no {split} split, and {len(train)} training documents are too few to carve "
            f"one out of; give the folder a {split}.parquet (or, if rows are joined into one "
            f"document, type dataset.join=null)"
        )
    size = len(splits["test"]) if "test" in splits else len(train) // 20
    size = max(1, min(size, len(train) // 10, most or len(train)))
    taken = drawn(len(train), size, "selection split" if split == "validation" else "test split")
    return train.only(~taken), train.only(taken)


def drawn(rows: int, size: int, *purpose: str) -> np.ndarray:
    """(rows,) bool, `size` of them true, by a fixed draw."""
    chosen = np.zeros(rows, bool)
    chosen[torch.randperm(rows, generator=generator(0, *purpose))[:size].numpy()] = True
    return chosen


def limited_documents(
    splits: Mapping[str, Documents], limit: int | None, held_out: int | None
) -> dict[str, Documents]:
    """At most `limit` documents of training and `held_out` of the other splits (None: all), by a
    fixed draw, in their order."""
    chosen = {}
    for split, documents in splits.items():
        most = limit if split == "train" else held_out
        if most is not None and most < len(documents):
            documents = documents.only(drawn(len(documents), most, "limit", split))
        chosen[split] = documents
    return chosen
