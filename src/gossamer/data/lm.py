"""Language-modelling data: documents packed into windows of a fixed number of tokens."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from gossamer.data.documents import Documents, choose_documents, limited_documents
from gossamer.data.info import SPLITS, DataInfo, SplitName
from gossamer.data.module import Batched, too_small
from gossamer.data.packing import Windows, evaluation_windows, training_windows
from gossamer.data.tokens import Tokens, cache_folder, tokenised
from gossamer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

METRICS = ("perplexity", "bits_per_byte")


class Corpus(Batched):
    """Documents of a split, tokenised, each followed by one EOS, in one stream cut into windows.

    No other special token is added, so a model that expects a BOS sees none. Training windows lie
    side by side; what is left after the last full one is not seen. Evaluation windows begin every
    `stride` tokens, and a token is scored in the first window that holds it. A batch is
    {"input_ids", "labels"}, (B, context) int64 each, labels aligned with the inputs and -100 where
    a token is not scored; see `data.packing`.

    A data set gives `name` and `read()`.

    Args:
        context: tokens per window.
        stride: tokens from one evaluation window to the next, at most `context`; None: `context`.
        batch_size: windows per batch, for training (over all devices together) and evaluation.
        workers: processes that prepare batches; 0: none.
        limit: at most so many documents of each split, by a fixed draw; None: all.
        held_out: the same, of validation and test; None: `limit`.
        cache: folder where token streams are kept; None: $GOSSAMER_CACHE or ~/.cache/gossamer.
    """

    carved: int | None = None  # a split that is carved out of training has at most so many

    def __init__(
        self,
        context: int,
        stride: int | None = None,
        batch_size: int = 8,
        workers: int = 0,
        limit: int | None = None,
        held_out: int | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        problems = too_small(
            {
                "context": (context, 2),
                "stride": (stride, 1),
                "batch_size": (batch_size, 1),
                "workers": (workers, 0),
                "limit": (limit, 1),
                "held_out": (held_out, 1),
            }
        )
        if stride is not None and stride > context:
            problems.append(
                f"dataset.stride={stride}: at most dataset.context={context}, or tokens between "
                f"two windows are never scored"
            )
        if problems:
            raise ConfigError(*problems)
        self.context, self.stride = context, context if stride is None else stride
        self.batch_size, self.workers, self.limit = batch_size, workers, limit
        self.held_out = limit if held_out is None else held_out
        self.cache = cache_folder(cache)
        self.splits: dict[str, Documents] = {}
        self.streams: dict[str, Tokens] = {}
        self.windows: dict[str, Windows] = {}

    @abstractmethod
    def read(self) -> tuple[dict[str, Documents], list[str]]:
        """(published splits, notes): what a data set gives, beside its name."""

    # The interface of the house.

    def load(self) -> None:
        """Find the documents of every split, once.

        Raises:
            DataError: an unreadable or missing file, or a split without a document.
        """
        if self.splits:
            return
        published, notes = self.read()
        splits, more = choose_documents(self.name, published, self.carved)
        self.splits = limited_documents(splits, self.limit, self.held_out)
        self._info = DataInfo(
            kind="language",
            classes=None,
            rows={split: len(self.splits[split]) for split in SPLITS},
            max_length=self.context,
            metrics=METRICS,
            name=self.name,
            notes=(*notes, *more),
            unit="documents",
        )

    def texts(self) -> Iterator[str]:
        """The documents of the training split."""
        self.load()
        return iter(self.splits["train"])

    def fingerprint(self) -> str:
        """sha256 of the splits as used and of how they are cut."""
        self.load()
        parts = [f"{self.context} {self.stride}", *(self.splits[s].fingerprint for s in SPLITS)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Tokenise every split, or find it tokenised; before this there are no batches.

        Raises:
            ConfigError: the tokenizer has no EOS token.
            DataError: training is shorter than one batch, or a split has nothing to score.
        """
        self.load()
        for split in SPLITS:
            self.streams[split] = tokenised(self.splits[split], tokenizer, self.cache)
        eos = tokenizer.eos_token_id
        self.windows["train"] = training_windows(self.streams["train"], self.context, eos)
        for split in ("validation", "test"):
            self.windows[split] = evaluation_windows(
                self.streams[split], self.context, self.stride, eos
            )
            if self.tokens(split) < 2:
                raise DataError(f"{self.name}: the {split} split has no token to predict")
        self._check_length()

    def tokens(self, split: SplitName) -> int:
        """Length of a split's stream; every document's EOS is one."""
        return len(self.rows(split).tokens)

    def bytes(self, split: SplitName) -> int:
        """UTF-8 bytes of a split's text. Bits per byte are nats per scored token / ln 2 ·
        tokens / bytes."""
        self.load()
        return self.splits[split].size

    @property
    def tokens_per_batch(self) -> int:
        return self.batch_size * self.context

    def sample(self, batch_size: int) -> dict[str, Tensor]:
        """The first windows of training, from the start again if there are fewer."""
        windows = self.rows("train")
        return windows[[row % len(windows) for row in range(batch_size)]]

    def rows(self, split: SplitName) -> Windows:
        if split not in self.windows:
            raise RuntimeError(f"{self.name}: encode(tokenizer) comes before windows of {split!r}")
        return self.windows[split]

    def _check_length(self) -> None:
        windows, tokens = len(self.windows["train"]), self.tokens("train")
        if windows >= self.batch_size:
            return
        lower = (
            f"dataset.batch_size={windows}"
            if windows
            else f"dataset.context={max(2, tokens // self.batch_size)}"
        )
        raise DataError(
            f"{self.name}: training has {tokens:,} tokens, {windows} windows of "
            f"dataset.context={self.context}, fewer than dataset.batch_size={self.batch_size}; "
            f"type {lower}" + ("" if self.limit is None else ", or a higher dataset.limit")
        )
