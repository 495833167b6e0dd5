"""The words of an error: the nearest valid name, and lists that stay short."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from gossamer.cli.values import show


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The valid name that was probably meant, if one is close."""
    lowered = {each.lower(): each for each in reversed(list(names))}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=cutoff)
    return lowered[close[0]] if close else None


def nearest_key(key: str, keys: Iterable[str]) -> str | None:
    """The dotted key that was probably meant: a neighbour, else one with nearly the same last part
    (`lr` finds trainer.lr), else one elsewhere that is spelled alike as a whole."""
    listed = list(keys)
    parent, _, leaf = key.rpartition(".")
    beside = [each for each in listed if each.rpartition(".")[0] == parent]
    if near := nearest(leaf, [each.rpartition(".")[2] for each in beside]):
        return f"{parent}.{near}" if parent else near
    same = [each for each in listed if each.rpartition(".")[2].lower() == leaf.lower()]
    if same:
        return max(same, key=lambda each: difflib.SequenceMatcher(None, key, each).ratio())
    leaves = {each.rpartition(".")[2]: each for each in reversed(listed)}
    if near := nearest(leaf, leaves, cutoff=0.75):
        return leaves[near]
    apart = [each for each in listed if each not in beside and not key.startswith(f"{each}.")]
    return nearest(key, apart, cutoff=0.75)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """', did you mean x?', or nothing."""
    near = nearest_key(name, names)
    return f", did you mean {near}?" if near else ""


def one_of(names: Iterable[str], most: int = 24) -> str:
    """'a, b, c'; a long list is cut, and says so."""
    listed = list(names)
    if not listed:
        return "nothing"
    cut = f", … ({len(listed) - most} more)" if len(listed) > most else ""
    return ", ".join(show(each) for each in listed[:most]) + cut


def line(key: str, value: str | None, message: str) -> str:
    """One problem: the key, the value as typed, what is wrong and what would be accepted."""
    typed = show(key) if value is None else f"{show(key)}={shorten(show(value))}"
    return f"{typed}: {message}"


def shorten(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[:most] + "…"
