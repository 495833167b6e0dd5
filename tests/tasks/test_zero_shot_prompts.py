"""Local copies are asked in the words of lm-eval's own task files, which are read here over the
same question in the hub's columns."""

from pathlib import Path

import lm_eval
import pytest
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from gossamer.tasks import zero_shot_folder
from tests.tasks.asking import write

TASKS = Path(lm_eval.__file__).parent / "tasks"
ARC = {"question": "Why?", "choices": {"text": ["so", "no"], "label": ["A", "B"]}, "answerKey": "B"}
LOCAL = {"context": "Why?", "choices": ["so", "no"], "label": 1}
BOTH = {  # name -> (folder of lm-eval's task file, a row of the hub, the same row here)
    "hellaswag": (
        "hellaswag",
        {
            "activity_label": "Roof",
            "ctx_a": "A man sits.",
            "ctx_b": "he",
            "endings": ["sings.", "[step] runs."],
            "label": "1",
        },
        {"context": "Roof: A man sits. He", "choices": ["sings.", " runs."], "label": 1},
    ),
    "piqa": ("piqa", {"goal": "Why?", "sol1": "so", "sol2": "no", "label": 1}, LOCAL),
    "arc_easy": ("arc", ARC, LOCAL),
    "arc_challenge": ("arc", ARC, LOCAL),
    "openbookqa": ("openbookqa", {**ARC, "question_stem": "Why?"}, LOCAL),
    "copa": (
        "super_glue/copa",
        {
            "premise": "Rain fell.",
            "question": "effect",
            "choice1": "He ran.",
            "choice2": "I sang.",
            "label": 1,
        },
        {"context": "Rain fell, therefore", "choices": ["he ran.", "i sang."], "label": 1},
    ),
    "winogrande": (
        "winogrande",
        {"sentence": "Ann met Bo so _ ran.", "option1": "Ann", "option2": "Bo", "answer": "2"},
        {
            "context_options": ["Ann met Bo so Ann", "Ann met Bo so Bo"],
            "continuation": "ran.",
            "label": 1,
        },
    ),
    "boolq": (
        "super_glue/boolq",
        {"passage": "Ice melts.", "question": "does ice melt", "label": 1},
        {"passage": "Ice melts.", "question": "does ice melt?", "label": 1},
    ),
    "lambada_openai": (
        "lambada",
        {"text": "He saw\nthe old dog"},
        {"context": "He saw\nthe old", "continuation": "dog"},
    ),
    "mmlu": (
        "mmlu",
        {
            "question": " 1+1? ",
            "choices": list("1234"),
            "answer": 1,
            "subject": "us_foreign_policy",
        },
        {"question": " 1+1? ", "choices": list("1234"), "label": 1, "subject": "us_foreign_policy"},
    ),
}


def asked(task: ConfigurableTask) -> tuple[list, dict]:
    """The texts and continuations of a task's first question, and what its right answer scores."""
    task.build_all_requests(limit=1, rank=0, world_size=1)
    requests = task.instances
    right = [(-1.0, False), (0.0, True), (-1.0, False), (-1.0, False)][: len(requests)]
    results = [(0.0, True)] if len(requests) == 1 else right
    return [r.args for r in requests], task.process_results(requests[0].doc, results)


@pytest.mark.parametrize("name", zero_shot_folder.TASKS)
def test_a_local_question_is_put_as_lm_eval_puts_it(name, tmp_path, monkeypatch):
    folder, theirs, ours = BOTH[name]
    split = zero_shot_folder.TASKS[name].split
    write(tmp_path, name, split, [ours])
    local = ConfigurableTask(config=zero_shot_folder.config(name, str(tmp_path)))

    class Offline(dict):
        """Any split is the one row; nothing is fetched."""

        def __missing__(self, split):
            return Dataset.from_list([theirs])

    monkeypatch.setattr("datasets.load_dataset", lambda *args, **kwargs: Offline())
    manager = TaskManager(include_defaults=False, include_path=str(TASKS / folder))
    hub = "mmlu_us_foreign_policy" if name == "mmlu" else name
    (own,) = manager.load([hub])["tasks"].values()
    own.set_config(key="num_fewshot", value=0)
    assert (own.config.test_split or own.config.validation_split) == split
    texts, scored = asked(own)
    assert asked(local)[0] == texts
    assert scored["acc"] == asked(local)[1]["acc"] == 1
