"""What must not leave the machine with a record: values of keys that are named like a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SECRET = {"token", "secret", "password", "passwd", "credential", "credentials", "apikey", "auth"}
HIDDEN = "<hidden>"


def without_secrets(value: Any, key: str = "") -> Any:
    """Plain data without the values of keys (and typed overrides) that are named like a secret."""
    if value is not None and _secret(key):
        return HIDDEN
    if isinstance(value, Mapping):
        return {name: without_secrets(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    if isinstance(value, str) and "=" in value:
        name, _, rest = value.partition("=")
        return f"{name}={HIDDEN}" if rest and _secret(name.rpartition(".")[2]) else value
    return value


def _secret(key: str) -> bool:
    words = re.split(r"[^a-z]+", key.lower())
    return bool(SECRET & set(words)) or "api_key" in key.lower()
