"""What was typed: overrides parsed by Hydra's own grammar, and sweeps expanded into jobs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from gossamer.cli import COMMANDS
from gossamer.cli.suggest import did_you_mean, line
from gossamer.cli.tree import SEVERAL, Tree

MOST_JOBS = 10_000


def spell(argv: Sequence[str]) -> list[str]:
    """`twin=[model=pca]` as Hydra's grammar wants it, which takes no '=' inside a list unquoted:
    `twin=["model=pca"]`. Everything else is left as it was typed."""
    spelled = []
    for text in argv:
        key, _, value = text.partition("=[")
        if key.lstrip("+") == "twin" and value.endswith("]") and not set(value) & set("'\""):
            items = _split(value[:-1])
            text = (
                f"{key}=[" + ",".join(json.dumps(each, ensure_ascii=False) for each in items) + "]"
            )
        spelled.append(text)
    return spelled


def _split(text: str) -> list[str]:
    """Split at the commas outside any bracket."""
    items, depth = [""], 0
    for char in text:
        depth += (char in "[{(") - (char in "]})")
        if char == "," and depth == 0:
            items.append("")
        else:
            items[-1] += char
    return [each.strip() for each in items if each.strip()]


def parse(texts: Sequence[str], tree: Tree) -> tuple[list[Override], list[str]]:
    """The overrides that Hydra's grammar accepts, and one line for each that it does not."""
    parser = OverridesParser.create(config_loader=tree.loader)
    parsed: list[Override] = []
    problems: list[str] = []
    for text in texts:
        try:
            parsed.extend(parser.parse_overrides([text]))
        except Exception:  # whatever the grammar trips over, the user typed it
            problems.append(_syntax(text, parser))
    return parsed, problems


def _syntax(text: str, parser: OverridesParser) -> str:
    key, equals, value = text.partition("=")
    if not equals and text in COMMANDS:
        return line(text, None, f"a command comes first: gossamer {text} …")
    if not equals:
        hint = did_you_mean(text, COMMANDS)
        return line(text or "''", None, f"neither a command nor key=value{hint}")
    if not key.strip("+~ "):
        return line(text, None, "the key before '=' is missing; an override is key=value")
    quoted = json.dumps(value, ensure_ascii=False)
    try:
        parser.parse_override(f"{key}={quoted}")
    except Exception:
        return line(
            key, value, "this key cannot be read; a key is words joined by dots: trainer.lr"
        )
    reason = "'=' in a value" if "=" in value else "a value with special characters"
    return line(key, value, f"{reason} must be quoted: '{key}={quoted}'")


def naming(override: Override) -> str:
    """The key as it is called in problems, with its package if one was typed."""
    package = f"@{override.package}" if override.package is not None else ""
    return f"{override.key_or_group}{package}"


def typed(override: Override) -> str | None:
    """The value as it was typed; None if there was none (a deletion)."""
    text = override.input_line or ""
    return text.partition("=")[2] if "=" in text else None


def sweep_problems(
    overrides: Sequence[Override], *, multirun: bool, listed: bool = True
) -> list[str]:
    """Sweeps where none can be, and, if they are to be `listed`, those that cannot be."""
    problems: list[str] = []
    jobs = 1
    for override in overrides:
        if not override.is_sweep_override():
            continue
        key, value = naming(override), typed(override)
        if not multirun:
            several = f" To use several in order: '{key}=[{value}]'." if key == SEVERAL else ""
            lists = several or f" To give a list: '{key}=[{value}]'."
            problems.append(line(key, value, f"several values are a sweep: add -m.{lists}"))
            continue
        if override.is_hydra_override() or key.partition(".")[0] == "sweep":
            problems.append(line(key, value, "is of the sweep itself and cannot be swept"))
            continue
        if not listed:
            continue
        if not override.is_discrete_sweep():
            reason = "an interval cannot be enumerated; give values (1,2) or range(1,3)"
            problems.append(line(key, value, f"{reason}, or search it with hydra/sweeper=optuna"))
            continue
        try:
            count = len(list(itertools.islice(override.sweep_iterator(), MOST_JOBS + 1)))
        except Exception as error:
            problems.append(line(key, value, f"cannot be enumerated: {_first_line(error)}"))
            continue
        if count == 0:
            problems.append(line(key, value, "matches nothing, so there is no job"))
        jobs *= count
        if jobs > MOST_JOBS:
            problems.append(line(key, value, f"the sweep has more than {MOST_JOBS} jobs"))
            break
    return problems


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def expand(overrides: Sequence[Override], params: dict[str, str], tree: Tree) -> list[list[str]]:
    """The overrides of each job of a sweep, in the order and spelling of Hydra's basic sweeper.
    `params` are hydra.sweeper.params, which what was typed overrides."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    configured, _ = parse([f"{key}={value}" for key, value in params.items()], tree)
    batches = BasicSweeper.split_arguments([*configured, *overrides], None)
    return [job for batch in batches for job in batch]
