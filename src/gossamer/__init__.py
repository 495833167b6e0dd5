"""Gossamer: experiments with sparse and compressed neural networks."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:  # `gossamer --help` must not import torch
    if name == "load":
        from gossamer.export.bundle import load

        return load
    raise AttributeError(f"module 'gossamer' has no attribute {name!r}")
