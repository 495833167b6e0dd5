"""A token stream cut into windows, and which of their tokens are scored.

Labels are aligned with the inputs: the label of position t is the token at t, which a causal model
predicts from the positions before it; the shift happens in the loss. So position 0 of a window is
never scored, whatever its label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gossamer.data.tokens import Tokens

IGNORED = -100  # the label of a token that is not scored


@dataclass(frozen=True, eq=False)
class Windows(Dataset):
    """Window k covers tokens k·stride … k·stride + context − 1; indexed by lists of windows."""

    tokens: Tokens
    context: int
    stride: int
    count: int
    eos: int  # fills the last window

    def __len__(self) -> int:
        return self.count

    @property
    def lengths(self) -> Tensor:
        """(windows,) Tokens of each: all the same, filling included."""
        return torch.full((self.count,), self.context)

    def __getitem__(self, windows: Sequence[int]) -> dict[str, Tensor]:
        """The batch of these windows: input_ids, labels (B, context) int64.

        A label is IGNORED where an earlier window has scored the token already, and on filling.
        """
        first = np.asarray(windows, np.int64)[:, None] * self.stride  # (B, 1)
        place = first + np.arange(self.context)  # (B, context), in the stream
        scored = np.where(first > 0, first - self.stride + self.context, 0)  # by earlier windows
        inside = place < len(self.tokens)
        ids = np.where(inside, self.tokens[np.minimum(place, len(self.tokens) - 1)], self.eos)
        labels = np.where(inside & (place >= scored), ids, IGNORED)
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


def training_windows(tokens: Tokens, context: int, eos: int) -> Windows:
    """Windows side by side, every token scored; what is left after the last full one is not
    seen."""
    return Windows(tokens, context, context, len(tokens) // context, eos)


def evaluation_windows(tokens: Tokens, context: int, stride: int, eos: int) -> Windows:
    """Windows that begin every `stride` tokens, as long as one scores something new.

    Where windows overlap, every token but the stream's first is scored once, with at least
    context − stride tokens before it (fewer only at the start). Where they do not, the first token
    of each window is not scored.
    """
    # side by side, a window that holds one token scores none
    length = len(tokens) - (stride == context)
    count = 1 + max(0, -(-(length - context) // stride))
    return Windows(tokens, context, stride, count, eos)
