"""Zero-shot tasks over local parquet files: which columns they need and how lm-eval asks them.

A task is a folder of its own name with the split that lm-eval evaluates, `piqa/validation.parquet`.
The prompts are lm-eval's own (its task files, version 0.4.13), written for the columns of these
copies; docs/zero-shot.md has the table, with what the copies lack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.errors import DataError

ACCURACY = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]


@dataclass(frozen=True)
class LocalTask:
    """`text`, `target` and `choices` are a column, or a template over columns, as lm-eval has them.

    The choices are scored after the text, and the target is the index of the right one. Where the
    text is an index, the choices are contexts and the target is what is scored after each of them.
    Without choices, the target itself has to be the model's most likely continuation."""

    split: str
    columns: tuple[str, ...]
    text: str
    target: str = "label"
    choices: str | tuple[str, ...] | None = "choices"
    description: str = ""  # stands before the text
    delimiter: str = " "  # between the text and a choice


CHOICES = ("context", "choices", "label")
QUESTION = "Question: {{context}}\nAnswer:"
TASKS = {
    "hellaswag": LocalTask("validation", CHOICES, "context"),
    "piqa": LocalTask("validation", CHOICES, QUESTION),
    "arc_easy": LocalTask("test", CHOICES, QUESTION),
    "arc_challenge": LocalTask("test", CHOICES, QUESTION),
    "openbookqa": LocalTask("test", CHOICES, "context"),
    "copa": LocalTask(  # lm-eval has no comma before the connective, and two blanks after it
        "validation",
        CHOICES,
        "{{context | regex_replace(', (because|therefore)$', ' \\\\1')}}",
        delimiter="  ",
    ),
    "winogrande": LocalTask(
        "validation",
        ("context_options", "continuation", "label"),
        text="label",
        target="continuation",
        choices="context_options",
    ),
    "boolq": LocalTask(
        "validation",
        ("passage", "question", "label"),
        "{{passage}}\nQuestion: {{question.removesuffix('?')}}?\nAnswer:",
        choices=("no", "yes"),
    ),
    "lambada_openai": LocalTask(
        "test", ("context", "continuation"), "context", "{{' ' + continuation}}", choices=None
    ),
    "mmlu": LocalTask(
        "test",
        ("subject", "question", "choices", "label"),
        "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
        "D. {{choices[3]}}\nAnswer:",
        choices=("A", "B", "C", "D"),
        description="The following are multiple choice questions (with answers) about "
        "{{subject.replace('_', ' ')}}.\n\n",
    ),
}


def config(name: str, folder: str) -> dict[str, Any]:
    """lm-eval's configuration of a task, over the rows of its local file.

    Raises DataError for a missing or unreadable file, a missing column, a label of no choice."""
    from datasets import Dataset

    task = TASKS[name]
    rows = Dataset(_table(name, folder))
    asked: dict[str, Any] = {
        "task": name,
        "custom_dataset": lambda **_: {task.split: rows},  # no copy in a cache elsewhere
        "test_split": task.split,
        "output_type": "multiple_choice" if task.choices else "loglikelihood",
        "description": task.description,
        "doc_to_text": task.text,
        "doc_to_target": task.target,
        "target_delimiter": task.delimiter,
        "num_fewshot": 0,
        "metric_list": ACCURACY,
    }
    if task.choices:
        asked["doc_to_choice"] = task.choices if isinstance(task.choices, str) else [*task.choices]
    return asked


def fingerprint(names: Iterable[str], folder: str) -> dict[str, str]:
    """SHA-256 of each task's file, by the task's name. Raises DataError if one is missing."""
    return {name: hashlib.sha256(_file(name, folder).read_bytes()).hexdigest() for name in names}


def _file(name: str, folder: str) -> Path:
    file = Path(folder).expanduser() / name / f"{TASKS[name].split}.parquet"
    if not file.is_file():
        raise DataError(
            f"eval.zero_shot={name}: {file} is missing; eval.folder names a folder that holds "
            f"{name}/{file.name}, and eval.folder=null takes the hub's"
        )
    return file


def _table(name: str, folder: str) -> Any:
    import pyarrow.parquet as parquet
    from pyarrow import ArrowInvalid

    task, file = TASKS[name], _file(name, folder)
    try:
        table = parquet.read_table(file)
    except (ArrowInvalid, OSError) as error:
        raise DataError(f"{file}: not a parquet file that can be read ({error})") from error
    for column in task.columns:
        if column not in table.column_names:
            raise DataError(
                f"{file}: no column {column!r}, which {name} needs; it has {table.column_names}"
            )
    if not table.num_rows:
        raise DataError(f"{file}: has no rows")
    if task.choices:
        _check_labels(file, table, task.choices)
    return table.select(list(task.columns))


def _check_labels(file: Path, table: Any, choices: str | tuple[str, ...]) -> None:
    column = choices if isinstance(choices, str) else "choices"
    listed = table[column].to_pylist() if column in table.column_names else None
    for row, label in enumerate(table["label"].to_pylist()):
        count = len(listed[row]) if listed is not None else len(choices)
        if not isinstance(label, int) or not 0 <= label < count:
            raise DataError(f"{file}: row {row} has the label {label!r}, with {count} choices")
