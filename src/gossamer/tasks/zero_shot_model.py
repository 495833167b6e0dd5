"""A model as lm-eval sees it: its own wrapper of Hugging Face models, with what it does silently
made visible and the model left as it was. Imports lm-eval, so it is imported where that is needed.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from gossamer.errors import DataError
from gossamer.tasks.evaluation import inference

Request = tuple[tuple[str, str], list[int], list[int]]  # texts, context's tokens, continuation's
SCORED = {"multiple_choice", "loglikelihood"}


class Scorer(HFLM):
    """Log-likelihoods of continuations, summed over tokens in float32 whatever the weights are.

    `cut` and `asked` count requests: all, and those of which the beginning did not fit the model's
    positions and was left out (lm-eval's rule). With `rehearsal` nothing is computed."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int, rehearsal: bool) -> None:
        super().__init__(
            pretrained=model,
            backend="causal",
            tokenizer=copy.deepcopy(tokenizer),  # a padding token is added to it
            batch_size=batch_size,
            softmax_dtype="float32",
        )
        self.rehearsal = rehearsal
        self.cut = self.asked = 0

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        for (_, answer), context, continuation in requests:
            if len(continuation) > self.max_length:
                raise DataError(
                    f"an answer of {len(continuation)} tokens does not fit the model's "
                    f"{self.max_length} positions: {answer[:60]!r}…"
                )
            self.cut += len(context) + len(continuation) > self.max_length + 1
        self.asked += len(requests)
        if self.rehearsal:
            return [(0.0, False)] * len(requests)
        return super()._loglikelihood_tokens(requests, True, override_bs)


def accuracy(scorer: Scorer, name: str, tasks: Mapping[str, Any], limit: int | None) -> float:
    """The plain accuracy (`acc`) of one task or group, over its first `limit` examples.

    Raises DataError for a task that has no such figure or does not fit the model."""
    kinds = {task.OUTPUT_TYPE for task in tasks["tasks"].values()}
    if other := sorted(kinds - SCORED):
        raise DataError(
            f"eval.zero_shot={name}: of the kind {' and '.join(other)}; only tasks that compare "
            f"continuations ({' or '.join(sorted(SCORED))}) have an accuracy here"
        )
    try:
        found = evaluate(scorer, tasks, limit=limit, bootstrap_iters=0, log_samples=False)
    except DataError as error:
        raise DataError(f"eval.zero_shot={name}: {error}") from error
    figures = found["results"].get(name, {})
    if "acc,none" not in figures:
        told = sorted(key.partition(",")[0] for key in figures if key.endswith(",none"))
        there = f"it has {', '.join(told)}" if told else f"it holds {', '.join(found['results'])}"
        raise DataError(f"eval.zero_shot={name}: has no plain accuracy (acc); {there}")
    return float(figures["acc,none"])


@contextmanager
def scoring(
    model: Any,
    tokenizer: Any,
    batch_size: int,
    device: str | torch.device | None,
    rehearsal: bool,
) -> Iterator[Scorer]:
    """The model on `device` (None: where it is) in eval mode, quietly; afterwards it is where and
    as it was."""
    before = next(model.parameters()).device
    logger = logging.getLogger("lm_eval")
    level = logger.level
    # the wrapper ties weights that a configuration calls tied, and a method may have parted them
    model.tie_weights = lambda *args, **kwargs: None
    try:
        logger.setLevel(logging.ERROR)
        with inference(model), redirect_stderr(io.StringIO()):  # bars
            yield Scorer(model.to(device or before), tokenizer, batch_size, rehearsal)
    finally:
        logger.setLevel(level)
        del model.tie_weights
        model.to(before)
