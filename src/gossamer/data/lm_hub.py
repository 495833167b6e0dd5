"""Language-modelling data of the Hugging Face hub: WikiText, C4, and whatever has a text column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gossamer.data.columns import First, ParquetColumn, TableColumn, joined
from gossamer.data.documents import Documents
from gossamer.data.info import SPLITS
from gossamer.data.lm import Corpus
from gossamer.data.module import too_small
from gossamer.data.streamed import copied
from gossamer.data.tables import lacking, split_files
from gossamer.errors import ConfigError, DataError
from gossamer.hub import hub_reachable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class HubText(Corpus):
    """A text column of a hub data set, or of the same splits as parquet files in a folder.

    WikiText (Merity et al. 2017, arXiv:1609.07843) is one row per line; the custom for its
    perplexity with sub-word tokenizers is the raw version, its rows joined by two line feeds. C4
    (Raffel et al. 2020, arXiv:1910.10683) is too large to fetch: it is streamed, and the first
    documents of each split are kept in `cache`. Its files are shuffled; where a data set's are not
    (Dolmino), `subset` says which part of it is read. Splits that are not published are carved out
    of training.

    Args:
        hub: the data set's id.
        subset: its configuration; None: the only one.
        revision: a commit, tag or branch of its repository; None: the newest.
        path: folder with train.parquet and validation.parquet or test.parquet (or shards of them);
            None: the hub.
        text: the column.
        join: what joins the rows of a split into one document; None: each row is a document.
        stream: read only as many rows as are asked for, instead of fetching all files.
        documents: rows that are read of the training split; None: all.
        validation_documents: rows that are read of each other split, and the most that are carved
            out of training; None: all.
        evaluation_hub, evaluation_subset, evaluation_join: another data set of the hub, whose
            validation and test splits are used in place of this one's.
        context, stride, batch_size, workers, limit, held_out, cache: as in `Corpus`.
    """

    def __init__(
        self,
        hub: str = "Salesforce/wikitext",
        subset: str | None = "wikitext-2-raw-v1",
        revision: str | None = None,
        path: str | None = None,
        text: str = "text",
        join: str | None = "\n\n",
        stream: bool = False,
        documents: int | None = None,
        validation_documents: int | None = None,
        evaluation_hub: str | None = None,
        evaluation_subset: str | None = None,
        evaluation_join: str | None = None,
        context: int = 2048,
        stride: int | None = None,
        batch_size: int = 8,
        workers: int = 0,
        limit: int | None = None,
        held_out: int | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__(context, stride, batch_size, workers, limit, held_out, cache)
        problems = too_small(
            {"documents": (documents, 1), "validation_documents": (validation_documents, 1)}
        )
        if stream and path is None and documents is None:
            problems.append(
                "dataset.documents=null: says how much is read of a stream; "
                "type dataset.documents=100000, or dataset.stream=false"
            )
        if problems:
            raise ConfigError(*problems)
        self.name = hub.split("/")[-1] + (f"/{subset}" if subset else "")
        self.source = (hub, subset, revision)
        self.path, self.text, self.join, self.stream = path, text, join, stream
        self.most = {split: validation_documents for split in SPLITS} | {"train": documents}
        self.carved = validation_documents
        self.other: HubText | None = None
        if evaluation_hub is not None:
            self.other = HubText(
                evaluation_hub,
                evaluation_subset,
                join=evaluation_join,
                context=context,
                cache=cache,
            )

    def read(self) -> tuple[dict[str, Documents], list[str]]:
        columns = self._folder(self.path) if self.path is not None else self._hub()
        notes = [
            f"of {split} the first {self.most[split]} rows were read"
            for split in columns
            if self.most[split] is not None
        ]
        documents = {split: joined(texts, self.join) for split, texts in columns.items()}
        if self.other is not None:
            held_out = self.other._hub()  # of which the training split is never read
            documents = {"train": documents["train"]} | {
                split: joined(texts, self.other.join)
                for split, texts in held_out.items()
                if split != "train"
            }
            notes.append(f"validation and test are those of {self.other.name}")
        return {split: Documents.of(texts) for split, texts in documents.items()}, notes

    def _folder(self, path: str) -> dict[str, Iterable[str]]:
        files = split_files(path)
        if "train" not in files:
            raise lacking("path", path, "train.parquet")
        return {
            split: First(ParquetColumn(self.name, split, tuple(ones), self.text), self.most[split])
            for split, ones in files.items()
        }

    def _hub(self) -> dict[str, Iterable[str]]:
        import datasets

        hub, subset, revision = self.source
        if not hub_reachable():
            datasets.config.HF_HUB_OFFLINE = True  # what was fetched before can still be read
        try:
            if self.stream:
                return self._stream()
            tables = datasets.load_dataset(hub, subset, revision=revision)
        except DataError:
            raise
        except Exception as error:  # the hub's clients raise a dozen unrelated types
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{self.name}: cannot be read from the hub ({reason}); or type "
                f"dataset.path=FOLDER with train.parquet and validation.parquet"
            ) from error
        return {
            split: First(TableColumn(self.name, split, tables[split], self.text), self.most[split])
            for split in SPLITS
            if split in tables
        }

    def _stream(self) -> dict[str, Iterable[str]]:
        import datasets

        hub, subset, revision = self.source

        def opened() -> Mapping[str, datasets.IterableDataset]:
            return datasets.load_dataset(hub, subset, revision=revision, streaming=True)

        key = (hub, str(subset), str(revision), self.text)
        return copied(self.name, opened, self.most, self.text, self.cache / "streamed", key)
