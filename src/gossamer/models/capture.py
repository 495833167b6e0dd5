"""What modules inside a model return, while it computes as ever."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def captured(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The latest output of each named module, by name, while the block lasts."""
    features: dict[str, Any] = {}

    def keep(name: str):
        return lambda module, args, output: features.__setitem__(name, output)

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield features
    finally:
        for hook in hooks:
            hook.remove()
