"""Random draws by name: changing one choice does not change another one's draw."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on `seed` and every word of `purpose`, and on nothing else."""
    text = "\x1f".join(str(word) for word in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int, device: str = "cpu"):
    """A torch.Generator for one named purpose, e.g. generator(seed, "order", epoch)."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, *purpose))


def seed_everything(seed: int, *purpose: str | int) -> None:
    """Seed python, numpy and torch (all devices) for one named purpose."""
    import random

    import numpy
    import torch

    value = derive(seed, *purpose)
    random.seed(value)
    numpy.random.seed(value % 2**32)
    torch.manual_seed(value)


@contextmanager
def drawing(seed: int, *purpose: str | int) -> Iterator[None]:
    """Draw from the global torch generators for one named purpose, then put them back as they were.

    For library code that takes no generator (`nn.Linear.__init__`, Hugging Face's weight init)."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive(seed, *purpose))
        yield


def generator_states() -> dict[str, Any]:
    """The state of every global generator that this process draws from, as tensors and plain
    values."""
    import random

    import numpy
    import torch

    version, words, gauss = random.getstate()
    name, keys, *rest = numpy.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(numpy.asarray(keys).astype("int64")), *rest],
        "torch": torch.get_rng_state(),
        # of the device in use: asking for all of them would open a context on each
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_generator_states(states: dict[str, Any]) -> None:
    import random

    import numpy
    import torch

    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states["numpy"]
    numpy.random.set_state((name, keys.numpy().astype("uint32"), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"])
