"""Tokenised rows, stored ragged, and the batches made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gossamer.data.splits import Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MULTIPLE = 8  # padded lengths: what tensor cores like


@dataclass(frozen=True, eq=False)
class Encoded(Dataset):
    """One split as token ids: row r is `ids[starts[r] : starts[r + 1]]`; indexed by row lists."""

    ids: Tensor  # (tokens,) int32
    types: Tensor | None  # (tokens,) uint8, token_type_ids where the model takes them
    starts: Tensor  # (rows + 1,) int64
    labels: Tensor  # (rows,) int64 class, or float32 score
    pad: int  # the padding token's id
    max_length: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        """(rows,) Tokens of each row."""
        return self.starts[1:] - self.starts[:-1]

    def __getitem__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The batch of these rows, padded to a multiple of 8 tokens, at most `max_length`."""
        picked = torch.as_tensor(rows)
        longest = int(self.lengths[picked].max())
        return self.padded(picked, min(-(-longest // MULTIPLE) * MULTIPLE, self.max_length))

    def padded(self, rows: Tensor, width: int) -> dict[str, Tensor]:
        """The batch of `rows` (B,) padded on the right to `width` tokens.

        Returns input_ids, attention_mask and, where the model takes them, token_type_ids
        (B, width) int64; labels (B,).
        """
        first = self.starts[rows]  # (B,)
        column = torch.arange(width)
        mask = column < self.lengths[rows][:, None]  # (B, width)
        index = (first[:, None] + column).clamp(max=len(self.ids) - 1)
        batch = {
            "input_ids": torch.where(mask, self.ids[index].long(), self.pad),
            "attention_mask": mask.long(),
        }
        if self.types is not None:
            batch["token_type_ids"] = torch.where(mask, self.types[index].long(), 0)
        batch["labels"] = self.labels[rows]
        return batch


def encode_split(
    split: Split, tokenizer: PreTrainedTokenizerBase, max_length: int, classes: bool
) -> Encoded:
    """Tokenise a split, cut to `max_length` tokens (of a pair, the longer text first).

    Args:
        classes: labels are class indices (int64); otherwise scores (float32).
    """
    tokens = tokenizer(
        split.first,
        split.second,
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
    )
    rows = tokens["input_ids"]
    types = tokens.get("token_type_ids")
    return Encoded(
        ids=torch.tensor(list(chain.from_iterable(rows)), dtype=torch.int32),
        types=None
        if types is None
        else torch.tensor(list(chain.from_iterable(types)), dtype=torch.uint8),
        starts=torch.tensor([0, *accumulate(map(len, rows))]),
        labels=torch.tensor(split.labels, dtype=torch.int64 if classes else torch.float32),
        pad=int(tokenizer.pad_token_id),
        max_length=max_length,
    )
