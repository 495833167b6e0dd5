"""The file form of a frozen config: written once, read by the process that runs it. No Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gossamer.errors import ConfigError


def write(config: Mapping[str, Any], file: Path) -> None:
    """Write a frozen config, atomically: another process may be reading the same path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def read(file: Path) -> dict[str, Any]:
    """Read a frozen config back. Raises ConfigError if the file is missing or is not one."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or "directory" not in content:
        raise ConfigError(f"{file}: is not the resolved config of a run")
    return content
