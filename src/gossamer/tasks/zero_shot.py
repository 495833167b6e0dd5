"""Zero-shot evaluation of language models by lm-eval (the optional extra `eval`).

Each example of a task is a text and possible continuations. The model's answer is the continuation
with the largest log p(continuation | text), summed over tokens and not divided by its length; the
figure is the share of right answers. This is lm-eval's `acc`, the one that the papers on N:M
sparsity average, and not `acc_norm`.

Nothing here imports torch or lm-eval before it is needed: the command line checks names with it.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gossamer.errors import ConfigError, DataError, GossamerError
from gossamer.tasks import zero_shot_folder

if TYPE_CHECKING:
    import torch

NOT_INSTALLED = "needs the package lm-eval; type pip install 'gossamer[eval]'"
LANGUAGE = "language"  # the kind of data whose models can be asked


def installed() -> bool:
    return importlib.util.find_spec("lm_eval") is not None


@dataclass(frozen=True)
class ZeroShot:
    """What is asked of a finished model. `names` are lm-eval's tasks or groups; `folder` holds
    local copies (None: the hub); `limit` takes the first examples of each task (None: all)."""

    names: tuple[str, ...]
    folder: str | None = None
    limit: int | None = None
    batch_size: int = 16

    def problems(self, kind: str) -> list[str]:
        """What would go wrong, one line each; `kind` is the data set's. Reads local files, loads
        nothing from the hub."""
        if kind != LANGUAGE:
            return [
                f"eval.zero_shot=[{','.join(self.names)}]: asks language models, but the data set "
                f"is {kind}; type eval.zero_shot=[]"
            ]
        if not installed():
            return [f"eval.zero_shot=[{','.join(self.names)}]: {NOT_INSTALLED}"]
        found = []
        for name in self.names:
            try:
                known(name, self.folder)
                if self.folder is not None:
                    zero_shot_folder.config(name, self.folder)
            except GossamerError as error:
                found.append(str(error))
        return found

    def rehearse(self, model: Any, tokenizer: Any) -> None:
        """Do all but the model's own work (`model` may be on the meta device), so that what cannot
        be loaded, scored or fitted into the model's positions is a DataError before training."""
        _figures(model, tokenizer, self, device=None, rehearsal=True)

    def evaluate(
        self, model: Any, tokenizer: Any, device: str | torch.device = "cpu"
    ) -> dict[str, float]:
        return evaluate(
            model, tokenizer, self.names, self.folder, self.limit, self.batch_size, device
        )

    def fingerprint(self) -> dict[str, Any]:
        """What the figures of one model depend on."""
        files = zero_shot_folder.fingerprint(self.names, self.folder) if self.folder else None
        return {
            "names": sorted(self.names),
            "files": files,
            "limit": self.limit,
            "lm-eval": version("lm-eval"),
        }


def evaluate(
    model: Any,
    tokenizer: Any,
    names: Iterable[str],
    folder: str | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """{"zero_shot/<task>": accuracy in [0, 1], …, "zero_shot/mean": over the tasks}; and, only if
    there are any, "zero_shot/cut": the share of prompts that were longer than the model's positions
    and lost their beginning.

    `model` is a causal language model of transformers, on any device and of any float type; it is
    evaluated on `device` and left where and as it was. Raises ConfigError for an unknown task and
    DataError for data that is missing or does not fit."""
    asked = ZeroShot(tuple(names), folder, limit, batch_size)
    return _figures(model, tokenizer, asked, device, rehearsal=False)


def known(name: str, folder: str | None) -> None:
    """Raises ConfigError for a name that is no task, with the nearest one."""
    names: Iterable[str] = zero_shot_folder.TASKS
    if name in names:
        return
    if folder is None:
        names = _manager().all_tasks
        if name in names:
            return
    near = difflib.get_close_matches(name, [*zero_shot_folder.TASKS, *names], n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    there = "lm-eval has no such task" if folder is None else "no such task in local copies"
    local = ", ".join(zero_shot_folder.TASKS)
    raise ConfigError(f"eval.zero_shot={name}: {there}{hint}; there are {local}")


def _figures(
    model: Any,
    tokenizer: Any,
    asked: ZeroShot,
    device: str | torch.device | None,
    *,
    rehearsal: bool,
) -> dict[str, float]:
    if not installed():
        raise ConfigError(f"eval.zero_shot: {NOT_INSTALLED}")
    from gossamer.tasks.zero_shot_model import accuracy, scoring

    figures = {}
    with scoring(model, tokenizer, asked.batch_size, device, rehearsal) as scorer:
        for name in asked.names:
            tasks = _load(name, asked.folder)
            figures[f"zero_shot/{name}"] = accuracy(scorer, name, tasks, asked.limit)
    figures["zero_shot/mean"] = sum(figures.values()) / len(figures)
    if scorer.cut:
        figures["zero_shot/cut"] = scorer.cut / scorer.asked
    return figures


def _load(name: str, folder: str | None) -> Mapping[str, Any]:
    """lm-eval's task or group of that name, as its `evaluate` takes it, without examples in the
    prompt."""
    from lm_eval.api.task import ConfigurableTask

    known(name, folder)
    if folder is not None:
        config = zero_shot_folder.config(name, folder)
        return {"tasks": {name: ConfigurableTask(config=config)}, "groups": {}}
    try:
        loaded = _manager().load([name])
    except (OSError, ValueError) as error:  # datasets' errors are of these kinds
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"eval.zero_shot={name}: could not be loaded from the hub: {line}; "
            "eval.folder=FOLDER reads local copies"
        ) from error
    for task in loaded["tasks"].values():
        task.set_config(key="num_fewshot", value=0)
    return loaded


@cache
def _manager() -> Any:
    """lm-eval's index of its tasks: it takes seconds to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()
