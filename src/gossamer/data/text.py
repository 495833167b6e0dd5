"""Text classification and regression data: single texts or pairs, with a label or a score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from gossamer.data.encoding import Encoded, encode_split
from gossamer.data.info import SPLITS, DataInfo, SplitName
from gossamer.data.module import Batched, too_small
from gossamer.data.splits import (
    Split,
    check_labels,
    choose_splits,
    digest,
    limited,
    overlaps,
    remove_rows,
)
from gossamer.data.tables import read_folder, read_splits
from gossamer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLASSIFICATION = ("accuracy", "macro_f1")
REGRESSION = ("pearson", "spearman", "mse")


class TextClassification(Batched):
    """A folder of parquet files with a text column and a label column.

    Args:
        path: folder with train.parquet, and test.parquet or validation.parquet or both.
        text, pair, label: columns; `pair` is the second text of a pair. Float labels are scores
            (regression); integers, strings and ClassLabels are classes.
        overlap: what to do with texts that occur in more than one split: "error", or "drop" them
            from training (from validation, if they are in the test split); `info.notes` says so.
        batch_size: rows per batch, for training (over all devices together) and evaluation.
        max_length: tokens per row, special tokens included; longer rows are cut.
        workers: processes that prepare batches; 0: none.
        limit: at most so many rows of each split, by a fixed draw; None: all.
    """

    def __init__(
        self,
        path: str | None = None,
        text: str = "text",
        pair: str | None = None,
        label: str = "label",
        overlap: Literal["error", "drop"] = "error",
        batch_size: int = 32,
        max_length: int = 128,
        workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        problems = too_small(
            {
                "batch_size": (batch_size, 1),
                "max_length": (max_length, 4),
                "workers": (workers, 0),
                "limit": (limit, 1),
            }
        )
        if overlap not in ("error", "drop"):
            problems.append(f"dataset.overlap={overlap}: error or drop")
        if problems:
            raise ConfigError(*problems)
        self.name = "text_folder"
        self.path, self.overlap = path, overlap
        self.columns = (text, pair, label)
        self.batch_size, self.max_length = batch_size, max_length
        self.workers, self.limit = workers, limit
        self.splits: dict[str, Split] = {}
        self.encoded: dict[str, Encoded] = {}

    # What another text data set overrides (beside its name): its metrics, how its splits are read.

    def metrics(self, classes: tuple[str, ...] | None) -> tuple[str, ...]:
        """The data set's own metrics, the primary one first."""
        return CLASSIFICATION if classes is not None else REGRESSION

    def read(self) -> tuple[dict[str, Split], tuple[str, ...] | None, list[str]]:
        """(published splits, classes or None for scores, notes)."""
        if self.path is None:
            raise DataError("dataset.path is not set: give the folder that holds train.parquet")
        splits, classes = read_splits(self.name, read_folder(self.path), *self.columns)
        return splits, classes, []

    # The interface of the house.

    def load(self) -> None:
        """Read the splits, once.

        Raises:
            DataError: an unreadable or missing file, an empty split, wrong labels, shared texts.
        """
        if self.splits:
            return
        published, classes, notes = self.read()
        splits, more = choose_splits(published)
        notes += more
        check_labels(self.name, splits, classes)
        for split, rows in overlaps(splits).items():
            if self.overlap == "error":
                text = " / ".join(splits[split].keys()[rows[0]])
                raise DataError(
                    f"{self.name}: {len(rows)} rows of the {split} split occur again in a later "
                    f"split, e.g. {text[:80]!r}; type dataset.overlap=drop to leave them out"
                )
            splits[split] = remove_rows(splits[split], rows)
            notes.append(
                f"{len(rows)} rows left out of {split}: their texts occur in a later split"
            )
        check_labels(self.name, splits, classes)
        self.splits = limited(splits, self.limit)
        self._info = DataInfo(
            kind="text",
            classes=classes,
            rows={split: len(self.splits[split]) for split in SPLITS},
            max_length=self.max_length,
            metrics=self.metrics(classes),
            name=self.name,
            notes=tuple(notes),
        )

    def texts(self) -> Iterator[str]:
        """The texts of the training split, both of a pair."""
        self.load()
        train = self.splits["train"]
        yield from train.first
        yield from train.second or ()

    def fingerprint(self) -> str:
        """sha256 of the splits as used."""
        self.load()
        return digest(self.splits, self.info.classes)

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Tokenise every split; before this there are no batches."""
        classes = self.info.classes is not None
        for name, split in self.splits.items():
            self.encoded[name] = encode_split(split, tokenizer, self.max_length, classes)

    def sample(self, batch_size: int) -> dict[str, Tensor]:
        """The first rows of training (from the start again if there are fewer), at full length."""
        rows = self.rows("train")
        return rows.padded(torch.arange(batch_size) % len(rows), self.max_length)

    def rows(self, split: SplitName) -> Encoded:
        if split not in self.encoded:
            raise RuntimeError(f"{self.name}: encode(tokenizer) comes before batches of {split!r}")
        return self.encoded[split]
