"""Language-modelling data from a folder of parquet files of one's own."""

from __future__ import annotations

from gossamer.data.columns import ParquetColumn, joined
from gossamer.data.documents import Documents
from gossamer.data.lm import Corpus
from gossamer.data.tables import lacking, split_files
from gossamer.errors import DataError


class LmFolder(Corpus):
    """Parquet files with a column of text: train, and validation or test or both.

    Splits that are missing are carved out of training. `evaluation` names another folder whose
    validation and test splits are used in place of this one's, so that a model is trained on one
    corpus and evaluated on another.

    Args:
        path: folder with train.parquet (or shards train-*.parquet).
        evaluation: folder with validation.parquet or test.parquet or both; None: the same folder.
        text: the column, in both folders.
        join: what joins the rows of a split into one document; None: each row is a document.
        evaluation_join: the same for the splits of `evaluation`.
        context, stride, batch_size, workers, limit, held_out, cache: as in `Corpus`.
    """

    name = "lm_folder"

    def __init__(
        self,
        path: str | None = None,
        evaluation: str | None = None,
        text: str = "text",
        join: str | None = None,
        evaluation_join: str | None = None,
        context: int = 256,
        stride: int | None = None,
        batch_size: int = 16,
        workers: int = 0,
        limit: int | None = None,
        held_out: int | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__(context, stride, batch_size, workers, limit, held_out, cache)
        self.path, self.evaluation, self.text = path, evaluation, text
        self.join, self.evaluation_join = join, evaluation_join

    def read(self) -> tuple[dict[str, Documents], list[str]]:
        if self.path is None:
            raise DataError("dataset.path is not set: give the folder that holds train.parquet")
        files = split_files(self.path)
        if "train" not in files:
            raise lacking("path", self.path, "train.parquet")
        glue = dict.fromkeys(files, self.join)
        notes = []
        if self.evaluation is not None:
            others = split_files(self.evaluation, key="evaluation")
            others.pop("train", None)
            if not others:
                raise lacking("evaluation", self.evaluation, "validation.parquet or test.parquet")
            files = {"train": files["train"], **others}
            glue |= dict.fromkeys(others, self.evaluation_join)
            notes.append(f"{' and '.join(others)} from the evaluation folder")
        return {
            split: Documents.of(
                joined(ParquetColumn(self.name, split, tuple(ones), self.text), glue[split])
            )
            for split, ones in files.items()
        }, notes
