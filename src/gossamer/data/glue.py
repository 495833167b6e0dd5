"""GLUE (Wang et al. 2019, arXiv:1804.07461): nine tasks on single sentences and sentence pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from gossamer.data.splits import Split
from gossamer.data.tables import read_folder, read_splits
from gossamer.data.text import REGRESSION, TextClassification
from gossamer.errors import ConfigError, DataError
from gossamer.hub import hub_reachable

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "nyu-mll/glue"
MATCHED = {"validation": "validation_matched", "test": "test_matched"}
TaskName = Literal["sst2", "mrpc", "cola", "rte", "stsb", "qnli", "mnli", "qqp", "wnli"]


@dataclass(frozen=True)
class GlueTask:
    """What differs between the tasks: columns, number of classes (None: scores), metrics."""

    text: str
    pair: str | None
    classes: int | None = 2
    metrics: tuple[str, ...] = ("accuracy",)
    names: dict[str, str] = field(default_factory=dict)  # split -> the published name


TASKS = {
    "sst2": GlueTask("sentence", None),
    "cola": GlueTask("sentence", None, metrics=("matthews", "accuracy")),
    "mrpc": GlueTask("sentence1", "sentence2", metrics=("f1", "accuracy")),
    "qqp": GlueTask("question1", "question2", metrics=("f1", "accuracy")),
    "stsb": GlueTask("sentence1", "sentence2", classes=None, metrics=REGRESSION),
    "mnli": GlueTask("premise", "hypothesis", classes=3, names=MATCHED),
    "qnli": GlueTask("question", "sentence"),
    "rte": GlueTask("sentence1", "sentence2"),
    "wnli": GlueTask("sentence1", "sentence2"),
}


class Glue(TextClassification):
    """One GLUE task, from the hub or from a local folder of parquet files.

    The labels of GLUE's test splits are not public (but for MRPC and, in some copies, STS-B): then
    test is the validation split, and the selection split is carved out of training. Texts that
    training shares with validation or test are left out of training; `info.notes` says how many.
    MNLI is evaluated on the matched split.

    Args:
        task: which of the nine.
        path: folder with train.parquet, validation.parquet (and test.parquet); None: the hub.
        cache: where hub files are kept; None: Hugging Face's own place.
        batch_size, max_length, workers, limit: as in `TextClassification`.
    """

    def __init__(
        self,
        task: TaskName = "sst2",
        path: str | None = None,
        cache: str | None = None,
        batch_size: int = 32,
        max_length: int = 128,
        workers: int = 0,
        limit: int | None = None,
    ) -> None:
        if task not in TASKS:
            raise ConfigError(f"dataset.task={task}: one of {', '.join(get_args(TaskName))}")
        self.task, self.facts, self.cache = task, TASKS[task], cache
        super().__init__(
            path=path,
            text=self.facts.text,
            pair=self.facts.pair,
            overlap="drop",
            batch_size=batch_size,
            max_length=max_length,
            workers=workers,
            limit=limit,
        )
        self.name = f"glue/{task}"

    def metrics(self, classes: tuple[str, ...] | None) -> tuple[str, ...]:
        del classes
        return self.facts.metrics

    def read(self) -> tuple[dict[str, Split], tuple[str, ...] | None, list[str]]:
        tables = self._hub() if self.path is None else read_folder(self.path, self.facts.names)
        text, pair, label = self.columns
        if self.task == "stsb" and label not in tables["train"].column_names:
            label = "score"  # the benchmark's own name for it; the hub calls it label
        splits, classes = read_splits(self.name, tables, text, pair, label)
        if self.facts.classes != (None if classes is None else len(classes)):
            raise DataError(
                f"{self.name}: expected {self.facts.classes or 'scores, no'} classes, found "
                f"{len(classes) if classes else 'scores'}: is {self.path or HUB} this task's data?"
            )
        return splits, classes, []

    def _hub(self) -> dict[str, Dataset]:
        import datasets

        if not hub_reachable():
            datasets.config.HF_HUB_OFFLINE = True  # what was fetched before can still be read
        try:
            tables = datasets.load_dataset(HUB, self.task, cache_dir=self.cache)
        except Exception as error:  # the hub's clients raise a dozen unrelated types
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{self.name}: cannot be read from the hub ({reason}); "
                f"or type dataset.path=FOLDER with train.parquet and validation.parquet"
            ) from error
        names = {
            split: self.facts.names.get(split, split) for split in ("train", "validation", "test")
        }
        return {split: tables[name] for split, name in names.items() if name in tables}
