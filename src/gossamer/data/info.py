"""What a data set tells the rest of the house about itself."""

from dataclasses import dataclass
from typing import Literal

SPLITS = ("train", "validation", "test")
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class DataInfo:
    """The facts of a data set that models, tasks and records need."""

    kind: Literal["text", "language", "image"]
    classes: tuple[str, ...] | None  # None: regression, or language
    rows: dict[str, int]  # split -> rows, as used
    max_length: int  # tokens per sample, special tokens included; 0 for images
    metrics: tuple[str, ...]  # the first is the primary one
    name: str
    notes: tuple[str, ...] = ()  # what was done to the published splits, one sentence each
    # what `rows` counts; of language data documents: windows exist once a tokenizer is known
    unit: Literal["rows", "documents"] = "rows"
    image: tuple[int, int, int] | None = None  # channels, height, width as the model sees them

    def batch(self, size: int) -> int:
        """Rows of a training batch where `size` are asked for: a split smaller than one batch is
        one. Language data always fills a batch with windows."""
        return size if self.unit == "documents" else min(size, self.rows["train"])
