"""Small corpora and a tokenizer for the tests of language data."""

from functools import cache

from gossamer.data.documents import Documents
from gossamer.data.lm import Corpus
from gossamer.models.bytelevel import train_bpe

WORDS = ("sparse", "weights", "are", "kept", "where", "they", "matter", "most", "and", "dropped")


def documents(start: int, count: int) -> list[str]:
    """Distinct texts of different lengths."""
    return [
        f"Document {number}: " + " ".join(WORDS[(number + i) % 10] for i in range(5 + number % 7))
        for number in range(start, start + count)
    ]


class Given(Corpus):
    """A corpus of given documents."""

    def __init__(self, splits: dict[str, list[str]], **arguments) -> None:
        super().__init__(**({"context": 16, "batch_size": 4} | arguments))
        self.name, self.given = "given", splits

    def read(self) -> tuple[dict[str, Documents], list[str]]:
        return {split: Documents.of(texts) for split, texts in self.given.items()}, []


def three() -> dict[str, list[str]]:
    return {
        "train": documents(0, 60),
        "validation": documents(100, 9),
        "test": documents(200, 11),
    }


@cache
def tokenizer():
    return train_bpe(documents(0, 60), 300)


def encoded(corpus: Corpus) -> Corpus:
    corpus.encode(tokenizer())
    return corpus
