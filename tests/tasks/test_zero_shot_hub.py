"""Tasks as lm-eval defines them over the hub's data: here over rows in memory."""

import os
import subprocess
import sys
from pathlib import Path

import lm_eval
import pytest
from datasets import Dataset
from lm_eval.tasks import TaskManager

from gossamer.errors import DataError
from gossamer.tasks import zero_shot
from gossamer.tasks.zero_shot import ZeroShot, evaluate
from tests.tasks.asking import accuracy, llama, questions, tokenizer

TASKS = Path(lm_eval.__file__).parent / "tasks"
FOLDERS = [str(TASKS / name) for name in ("piqa", "mmlu/default", "wikitext")]


@pytest.fixture(scope="module")
def manager():
    return TaskManager(include_defaults=False, include_path=FOLDERS)


@pytest.fixture(autouse=True)
def hub(manager, monkeypatch):
    """Every data set of the hub has these rows, in every split."""
    monkeypatch.setattr(zero_shot, "_manager", lambda: manager)
    rows = questions(12, choices=4)
    theirs = [
        {
            "goal": row["context"],
            "sol1": row["choices"][0],
            "sol2": row["choices"][1],
            "label": row["label"] % 2,
            "question": row["context"],
            "choices": row["choices"],
            "answer": row["label"],
            "page": row["context"],
        }
        for row in rows
    ]

    class Splits(dict):
        def __missing__(self, split):
            return Dataset.from_list(theirs)

    monkeypatch.setattr("datasets.load_dataset", lambda *args, **kwargs: Splits())
    return theirs


def test_a_task_of_the_hub_has_the_accuracy_by_hand(hub):
    model = llama()
    texts = [f"Question: {row['goal']}\nAnswer:" for row in hub]
    pairs = [
        [(text, " " + row["sol1"]), (text, " " + row["sol2"])]
        for text, row in zip(texts, hub, strict=True)
    ]
    expected = accuracy(model, iter(pairs), [row["label"] for row in hub])
    assert evaluate(model, tokenizer(), ["piqa"])["zero_shot/piqa"] == expected


def test_a_group_has_the_accuracy_over_all_its_questions():
    found = evaluate(llama(), tokenizer(), ["mmlu", "mmlu_anatomy"], limit=2)
    assert {"zero_shot/mmlu", "zero_shot/mmlu_anatomy", "zero_shot/mean"} <= found.keys()
    assert 0 <= found["zero_shot/mmlu"] <= 1


def test_what_has_no_accuracy_of_its_own_is_refused_before_training():
    for name, word in (
        ("wikitext", "loglikelihood_rolling"),
        ("mmlu_stem_tasks", "it holds .*mmlu_anatomy"),
    ):
        with pytest.raises(DataError, match=rf"eval\.zero_shot={name}: .*{word}"):
            ZeroShot((name,), limit=1).rehearse(llama(), tokenizer())


def test_a_name_that_is_no_task_of_lm_eval_is_answered_with_the_nearest():
    assert ZeroShot(("mmlu_anatomy", "hellaswag")).problems("language") == []
    (line,) = ZeroShot(("mmlu_anatmy",)).problems("language")
    assert "eval.zero_shot=mmlu_anatmy" in line and "did you mean mmlu_anatomy?" in line


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'baber/piqa' on the Hub\nmore")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataError, match="could not be loaded from the hub: Couldn't reach") as told:
        evaluate(llama(), tokenizer(), ["piqa"])
    assert "\n" not in str(told.value) and "eval.folder=FOLDER" in str(told.value)


@pytest.mark.network
def test_the_hub_gives_what_the_tasks_need():
    code = (
        "from gossamer.tasks.zero_shot import ZeroShot\n"
        "from tests.tasks.asking import llama, tokenizer\n"
        "names = ('hellaswag', 'piqa', 'winogrande', 'arc_easy', 'openbookqa', 'copa')\n"
        "print(ZeroShot(names, limit=4).evaluate(llama(2048), tokenizer()))"
    )
    online = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    ran = subprocess.run([sys.executable, "-c", code], env=online, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "zero_shot/mean" in ran.stdout
