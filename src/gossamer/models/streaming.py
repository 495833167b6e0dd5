"""A model taken block by block: all rows pass block 0, then all pass block 1, and so on. A device
need hold one block at a time, and a method can change a block before the next one is fed.

The blocks are `model.parts.blocks`. A block takes the hidden states first and returns them, alone
or as the first entry of a tuple, in the same shape. What else it is called with (masks, positions;
never a cache) is recorded once, from a pass in which no block computes: it must not depend on what
the blocks compute. Where the model does something between two blocks (the stages of a Swin, between
which patches are merged), it does so when the blocks before are done.

Hidden states are kept where the model is: those of a model on the CPU that streams through a GPU
are on the CPU, and of a model that is on the GPU, there.

This was only ever run on CPUs: that tensors move to another device and back was never seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.contract import ANSWERS, Batch
from gossamer.errors import DataError, StageError
from gossamer.models.inference import inference
from gossamer.models.parts import parts_of

CACHES = ("past_key_values", "past_key_value", "layer_past")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # of one call of a block, but for the states
Device = torch.device | str


@dataclass
class Passage:
    """One batch on its way through the blocks."""

    inputs: dict[str, Tensor]  # what the model is given, (rows, …) each
    states: Tensor  # (rows, tokens, width), a Swin's (rows, height, width, features): what the
    # next block is fed
    arguments: list[Arguments]  # of the call of each block
    packed: bool  # do the blocks return a tuple?
    apart: frozenset[int] = frozenset()  # blocks that are not fed just what the one before returned

    @property
    def real(self) -> Tensor | None:
        """(rows, tokens) True where a token is no padding; None: all of them are real."""
        mask = self.inputs.get("attention_mask")
        if mask is None or mask.ndim != 2 or bool(mask.all()):
            return None
        return mask.bool()


def enter(
    model: nn.Module, batches: Iterable[Batch], rows: int | None, device: Device
) -> list[Passage]:
    """The first `rows` rows of `batches` (None: all), embedded, before the first block. The last
    batch is cut to the exact number. Raises DataError if there are fewer rows."""
    first = model.get_submodule(parts_of(model).blocks[0])
    home = next(_tensors(first)).device
    passages: list[Passage] = []
    with on_device(lambda: _outside(model), device):
        for inputs in inputs_of_rows(batches, rows):
            if not passages:
                with on_device(lambda: _tensors(first), device):
                    packed = _is_packed(model, first, inputs, device)
            with _bypassed(model, packed) as calls:
                _forward(model, inputs, device)
            moved: dict[int, Any] = {}  # what several blocks are given is kept once
            passages.append(
                Passage(
                    _to(inputs, home, {}),
                    calls[0][0].to(home),
                    [_to(arguments, home, moved) for _, arguments in calls],
                    packed,
                    _apart([states for states, _ in calls]),
                )
            )
    return passages


Run = Callable[[Callable[[Passage], None]], None]


def blocks(model: nn.Module, passages: list[Passage], device: Device) -> Iterator[tuple[str, Run]]:
    """(path, run) of each block, while it is on the device. `run(watch)` calls the block on every
    passage, after `watch(passage)`, for hooks to look at; it changes no states. When the next block
    is asked for, the states become what this one, as it is by then, makes of them."""
    for index, path in enumerate(parts_of(model).blocks):
        block = model.get_submodule(path)
        _cross(model, [passage for passage in passages if index in passage.apart], index, device)

        def run(
            watch: Callable[[Passage], None], block: nn.Module = block, index: int = index
        ) -> None:
            with inference(model):
                for passage in passages:
                    watch(passage)
                    _call(block, passage, index, device)

        with on_device(lambda block=block: _tensors(block), device):  # type: ignore[misc]
            yield path, run
            with inference(model):
                for passage in passages:
                    states = _call(block, passage, index, device)
                    passage.states = states.to(passage.states.device)


def _apart(fed: list[Tensor]) -> frozenset[int]:
    """Which blocks are fed something else than what was handed on by the block before."""
    return frozenset(i for i in range(1, len(fed)) if fed[i] is not fed[i - 1])


def _cross(model: nn.Module, passages: list[Passage], index: int, device: Device) -> None:
    """Bring the states from behind block `index` - 1 to before block `index`: what the model does
    between the two."""
    if not passages:
        return
    with on_device(lambda: _outside(model), device):
        for passage in passages:
            made = passage.states.to(device)
            with _bypassed(model, passage.packed, made, index - 1) as calls:
                _forward(model, passage.inputs, device)
            passage.states = calls[index][0].to(passage.states.device)


def leave(model: nn.Module, passages: Iterable[Passage], device: Device) -> Iterator[Any]:
    """What the model's forward returns for each passage that went through all blocks: the rest of
    the model (final norm, head) computes, on `device`, and no block does."""
    with on_device(lambda: _outside(model), device):
        for passage in passages:
            with _bypassed(model, passage.packed, passage.states.to(device)):
                output = _forward(model, passage.inputs, device)
            yield output


def outputs(model: nn.Module, batches: Iterable[Batch], device: Device) -> Iterator[Any]:
    """What `model(**batch)` returns for every batch, labels left out, with one block at a time on
    the device. The hidden states of all `batches` are in memory together."""
    passages = enter(model, batches, None, device)
    for _ in blocks(model, passages, device):
        pass
    yield from leave(model, passages, device)


@contextmanager
def on_device(tensors: Callable[[], Iterable[Tensor]], device: Device) -> Iterator[None]:
    """Parameters and buffers on a device, in place, and afterwards back where each one was; one
    that was added meanwhile goes where the first one was."""
    homes = {id(tensor): (tensor, tensor.device) for tensor in tensors()}
    try:
        for tensor, _ in homes.values():
            tensor.data = tensor.data.to(device)
        yield
    finally:
        default = next(iter(homes.values()), None)
        for tensor in tensors():
            _, home = homes.get(id(tensor), default or (tensor, tensor.device))
            tensor.data = tensor.data.to(home)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _outside(model: nn.Module) -> list[Tensor]:
    """The parameters and buffers that are in no block."""
    inside = {id(t) for path in parts_of(model).blocks for t in _tensors(model.get_submodule(path))}
    return [tensor for tensor in _tensors(model) if id(tensor) not in inside]


def inputs_of_rows(batches: Iterable[Batch], rows: int | None) -> Iterator[dict[str, Tensor]]:
    """The model's inputs of the first `rows` rows (None: all). DataError if there are fewer."""
    seen = 0
    for batch in batches:
        left = None if rows is None else rows - seen
        inputs = {name: value[:left] for name, value in batch.items() if name not in ANSWERS}
        seen += len(next(iter(inputs.values())))
        yield inputs
        if seen == rows:
            return
    if rows is not None:
        raise DataError(
            f"samples={rows}: the data to calibrate on has {seen} rows; type samples={seen} or less"
        )


def _forward(model: nn.Module, inputs: Mapping[str, Tensor], device: Device) -> Any:
    given: dict[str, Any] = _to(dict(inputs), device, {})
    if "use_cache" in inspect.signature(model.forward).parameters:
        given["use_cache"] = False
    with inference(model):
        return model(**given)


class _Seen(Exception):
    """A block has returned; the rest of the model need not run."""


def _is_packed(
    model: nn.Module, first: nn.Module, inputs: Mapping[str, Tensor], device: Device
) -> bool:
    """Does the model's first block return a tuple?"""
    kinds = []

    def stop(module: nn.Module, given: Any, output: Any) -> None:
        kinds.append(isinstance(output, tuple))
        raise _Seen

    handle = first.register_forward_hook(stop)
    try:
        _forward(model, inputs, device)
    except _Seen:
        return kinds[0]
    finally:
        handle.remove()
    raise StageError(f"the model's forward does not call its first block, {type(first).__name__}")


@contextmanager
def _bypassed(
    model: nn.Module, packed: bool, made: Tensor | None = None, at: int = -1
) -> Iterator[list[tuple[Tensor, Arguments]]]:
    """The model with blocks that do not compute: each hands its states on, but block `at` (-1: the
    last) `made`, if that is given. The list collects each call's states and other arguments."""
    modules = [model.get_submodule(path) for path in parts_of(model).blocks]
    calls: list[tuple[Tensor, Arguments]] = []

    def bypass(*args: Any, **kwargs: Any) -> Any:
        states = args[0] if args else kwargs.pop("hidden_states")
        rest = {name: None if name in CACHES else value for name, value in kwargs.items()}
        calls.append((states, (args[1:], rest)))
        if made is not None and len(calls) == (at % len(modules)) + 1:
            states = made
        return (states,) if packed else states

    replaced = [vars(module).get("forward") for module in modules]
    for module in modules:
        module.forward = bypass
    try:
        yield calls
    finally:
        for module, own in zip(modules, replaced, strict=True):
            del module.forward
            if own is not None:
                module.forward = own
    if len(calls) != len(modules):
        raise StageError(f"{len(modules)} blocks were named, {len(calls)} were called")


def _call(block: nn.Module, passage: Passage, index: int, device: Device) -> Tensor:
    args, kwargs = _to(passage.arguments[index], device, {})
    made = block(passage.states.to(device), *args, **kwargs)
    states: Tensor = made[0] if passage.packed else made
    if states.shape != passage.states.shape:
        was, now = tuple(passage.states.shape), tuple(states.shape)
        raise StageError(f"block {index} makes hidden states {now} of {was}: cannot be streamed")
    return states


def _to(value: Any, device: Device, moved: dict[int, Any]) -> Any:
    """`value` with every tensor in it on the device; `moved` remembers, so that an object that is
    met twice is one object again."""
    match value:
        case Tensor():
            return moved.setdefault(id(value), value.to(device))
        case tuple() | list():
            return type(value)(_to(one, device, moved) for one in value)
        case dict():
            return {key: _to(one, device, moved) for key, one in value.items()}
    return value
