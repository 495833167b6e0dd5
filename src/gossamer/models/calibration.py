"""Pruning a model block by block on calibration data, as Wanda and SparseGPT do it.

A block is fed what the blocks before it, already pruned, make of the calibration rows. All of its
layers get their statistics from one pass through the block as it was (the official code of both
does so: a layer never sees inputs from a pruned layer of its own block); then they are pruned, and
the pruned block feeds the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from gossamer.contract import Batch
from gossamer.errors import StageError
from gossamer.models import streaming
from gossamer.models.parts import body_linears, parts_of


class Statistic(Protocol):
    """What is summed up of a layer's inputs."""

    def add(self, x: Tensor) -> None:
        """x: (tokens, in); padding is left out."""


def problems(pattern: str, samples: int, recover: float, data: Any) -> list[str]:
    """What is wrong with the settings of a calibrated pruning, beside the layers' own problems; one
    line each."""
    found = [*pattern_problems(pattern), *sample_problems(samples, data)]
    if not 0 <= recover <= 1:
        found.append(f"recover={recover}: a share of the steps, from 0 to 1")
    return found


def pattern_problems(pattern: str) -> list[str]:
    """A line if weights are not dropped one by one."""
    if pattern in ("row", "column") or str(pattern).startswith("block:"):
        return [f"pattern={pattern}: the paper has N:M and unstructured; set one of them"]
    return []


def sample_problems(samples: int, data: Any) -> list[str]:
    """A line if so many rows cannot be had. How many windows there are is only known once the
    documents of language data are tokenised; then `streaming.enter` says it."""
    if samples < 1:
        return [f"samples={samples}: at least 1"]
    known = data is not None and data.info.unit == "rows"
    rows = data.info.rows.get("train") if known else None
    if rows and samples > rows:
        return [f"samples={samples}: the training split has {rows} rows; type samples={rows}"]
    return []


S = TypeVar("S", bound=Statistic)


def prune_blocks(
    model: nn.Module,
    batches: Iterable[Batch],
    samples: int,
    roles: Collection[str] | None,
    statistic: Callable[[], S],
    prune: Callable[[str, nn.Module, S], None],
    done: Collection[str],
) -> Iterator[str]:
    """Call `prune(path, layer, what was seen of its inputs)` for each of the body's layers of these
    roles (None: all), and yield the path of each block when its layers are pruned. Blocks in `done`
    are pruned already: they only feed those after them.

    Works where the batches are, one block at a time; a model that is elsewhere stays there. Layers
    that are fed the same tensor (query, key and value; gate and up) share one statistic."""
    layers = layers_of_blocks(model, roles)
    if all(block in done for block in layers):
        return
    batches = iter(batches)
    ahead = list(islice(batches, 1))
    device = next(iter(ahead[0].values())).device if ahead else torch.device("cpu")
    passages = streaming.enter(model, chain(ahead, batches), samples, device)
    for block, run in streaming.blocks(model, passages, device):
        inside = layers.get(block, {})
        if inside and block not in done:
            seen = _observed(inside, statistic, run)
            for path, layer in inside.items():
                prune(path, layer, seen.pop(path))
            yield block


def layers_of_blocks(
    model: nn.Module, roles: Collection[str] | None
) -> dict[str, dict[str, nn.Module]]:
    """Block path -> {layer path: layer}, of the layers of these roles; only blocks that have any.
    Raises StageError if a layer is in no block."""
    found: dict[str, dict[str, nn.Module]] = {}
    for path, layer in body_linears(model, roles).items():
        block = next((b for b in parts_of(model).blocks if path.startswith(f"{b}.")), None)
        if block is None:
            raise StageError(f"{path} is in no block of the model, so no block's pass reaches it")
        found.setdefault(block, {})[path] = layer
    return found


def _observed(
    layers: dict[str, nn.Module], statistic: Callable[[], S], run: streaming.Run
) -> dict[str, S]:
    """What one pass through a block gives its layers."""
    seen: dict[str, S] = {}
    now: list[streaming.Passage] = []  # the passage that is being run
    given: list[tuple[Tensor, S]] = []  # layer inputs of this passage, and who has them

    def watch(passage: streaming.Passage) -> None:
        now[:], given[:] = [passage], []

    def observe(path: str, x: Tensor) -> None:  # (rows, tokens, in)
        for old, statistic_of_old in given:
            if old is x:
                seen[path] = statistic_of_old
                return
        one = seen[path] if path in seen else seen.setdefault(path, statistic())
        one.add(_tokens(x, now[0].real, path))
        given.append((x, one))

    with ExitStack() as hooks:
        for path, layer in layers.items():
            handle = layer.register_forward_pre_hook(
                lambda module, inputs, path=path: observe(path, inputs[0])
            )
            hooks.callback(handle.remove)
        run(watch)
    return seen


def _tokens(x: Tensor, real: Tensor | None, path: str) -> Tensor:
    """(tokens, in): what a layer is fed, without padding."""
    if real is None:
        return x.flatten(0, -2)
    if real.shape != x.shape[:-1]:
        told = f"{path} is fed {tuple(x.shape)}, the attention mask is {tuple(real.shape)}"
        raise StageError(f"{told}: padding cannot be told from tokens")
    return x[real.to(x.device)]
