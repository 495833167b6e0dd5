"""What was typed for a search, as parameters; and which of them a trial has.

An override of a key that the choices of a trial do not have, such as compression.lora.rank beside
compression=none, is left out of that trial. A key that no choice has is a mistake.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from gossamer.cli import keys
from gossamer.cli.overrides import naming, parse, typed
from gossamer.cli.suggest import line
from gossamer.cli.tree import Tree
from gossamer.sweep.space import Choices, Numbers, Parameter

MOST_CORNERS = 64  # combinations of choices that are checked all; of more, each choice once


class Refused(ValueError):
    """A sweep that a search cannot read, and why."""


@dataclass(frozen=True)
class Space:
    """Everything that was typed for the jobs of a search, in order; what has one value, too."""

    tree: Tree
    parameters: tuple[Parameter, ...]

    @cached_property
    def choosing(self) -> list[Choices]:
        """Those that choose in a group: they decide which keys there are."""
        return [
            each
            for each in self.parameters
            if isinstance(each, Choices) and self.tree.is_group(each.key)
        ]

    def present(self, chosen: Mapping[str, str]) -> list[Parameter]:
        """The parameters that a trial has whose groups are `chosen`: group -> choice."""
        texts = [each.override(chosen[each.key]) for each in self.choosing]
        try:
            config = self.tree.compose(texts)
        except Exception:  # choices that do not go together are reported by checking the job
            return list(self.parameters)
        return [each for each in self.parameters if self._has(each, config)]

    def _has(self, parameter: Parameter, config: Any) -> bool:
        name = parameter.key
        return parameter in self.choosing or name[0] in "+~" or keys.has(config, name)

    def combinations(self) -> list[dict[str, str]]:
        """The choices in groups, each with each; where these are too many, each one once."""
        options = {each.key: each.values for each in self.choosing}
        every = list(itertools.islice(itertools.product(*options.values()), MOST_CORNERS + 1))
        if len(every) > MOST_CORNERS:
            first = {key: values[0] for key, values in options.items()}
            return [first | {key: value} for key, values in options.items() for value in values]
        return [dict(zip(options, values, strict=True)) for values in every]

    def written(self, present: Sequence[Parameter], values: Mapping[str, str]) -> list[str]:
        """The overrides of a job, in the order in which they were typed."""
        return [each.override(values[each.key]) for each in present]

    def corners(self) -> Iterator[list[str]]:
        """The overrides of jobs in which every choice and the ends of every range occur."""
        seen = set()
        everywhere: dict[str, tuple[list[Parameter], dict[str, str]]] = {}
        for chosen in self.combinations():
            present = self.present(chosen)
            first = {each.key: each.corners[0] for each in present} | chosen
            for each in present:
                everywhere.setdefault(each.key, (present, first))
            job = self.written(present, first)
            seen.add(tuple(job))
            yield job
        for parameter in self.parameters:
            if parameter in self.choosing:
                continue  # done above, each with the keys that it brings
            if parameter.key not in everywhere:  # nothing has it: the check says what is near
                present, first = next(iter(everywhere.values()), ([], {}))
                everywhere[parameter.key] = [*present, parameter], first
            present, first = everywhere[parameter.key]
            for value in parameter.corners:
                job = self.written(present, first | {parameter.key: value})
                if tuple(job) not in seen:
                    seen.add(tuple(job))
                    yield job

    def left_out(self) -> list[str]:
        """A line for each parameter that not all trials have."""
        absent: dict[str, list[dict[str, str]]] = {}
        combinations = self.combinations()
        for chosen in combinations:
            names = {each.key for each in self.present(chosen)}
            for each in self.parameters:
                if each.key not in names:
                    absent.setdefault(each.key, []).append(chosen)
        return [
            f"{key}: left out of trials with {', '.join(self._where(chosen))}, where it is no key"
            for key, chosen in absent.items()
            if len(chosen) < len(combinations)
        ]

    def _where(self, absent: Sequence[Mapping[str, str]]) -> list[str]:
        """The choices that differ between trials, of those that lack a key."""
        varied = [each.key for each in self.choosing if not each.fixed]
        names = dict.fromkeys(
            " ".join(f"{key}={chosen[key]}" for key in varied) for chosen in absent
        )
        return list(names)

    def values(self) -> Iterator[dict[str, Any]]:
        """The values of every trial, in order, each once; what is fixed is not in them."""
        seen: list[dict[str, Any]] = []
        options = {each.key: each.listed or () for each in self.parameters}
        for values in itertools.product(*options.values()):
            every = dict(zip(options, values, strict=True))
            present = self.present({each.key: every[each.key] for each in self.choosing})
            own = {each.key: every[each.key] for each in present if not each.fixed}
            if own not in seen:
                seen.append(own)
                yield own


def read(
    overrides: Sequence[Override], params: Mapping[str, str], tree: Tree
) -> tuple[Space, list[str]]:
    """The space that was typed, with what hydra.sweeper.params adds; and what is wrong with it."""
    configured, problems = parse([f"{key}={value}" for key, value in params.items()], tree)
    parameters: dict[str, Parameter] = {}
    for override in [*configured, *overrides]:
        key = override.get_key_element()
        try:
            parameters[key] = _parameter(key, override)
        except Refused as error:
            problems.append(line(naming(override), typed(override), str(error)))
    return Space(tree, tuple(parameters.values())), problems


def _parameter(key: str, override: Override) -> Parameter:
    value = override.value()
    tags = getattr(value, "tags", set())
    if unknown := sorted(tags - {"log"}):
        raise Refused(f"no such tag: {unknown[0]}; a search knows tag(log, …)")
    log = "log" in tags
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        return _numbers(key, value.start, value.end, None, log)
    if isinstance(value, RangeSweep):
        listed = list(value.range())
        if not listed:
            raise Refused("matches nothing, so there is no trial")
        low, high = min(listed[0], listed[-1]), max(listed[0], listed[-1])
        if len(listed) == 1:
            return Choices(key, (str(low),))
        return _numbers(key, low, high, abs(value.step), log)
    if log:
        raise Refused("tag(log, …) is for an interval or a range of numbers")
    if override.is_sweep_override():
        texts = tuple(dict.fromkeys(override.sweep_string_iterator()))
        if not texts:
            raise Refused("matches nothing, so there is no trial")
        return Choices(key, texts)
    if override.is_delete() and typed(override) is None:
        return Choices(key, ("",))
    return Choices(key, (override.get_value_element_as_str(),))


def _numbers(key: str, low: float, high: float, step: float | None, log: bool) -> Numbers:
    whole = isinstance(low, int) and isinstance(high, int) and not isinstance(step, float)
    if not whole:
        low, high = float(low), float(high)
    if low >= high:
        raise Refused(f"the ends of an interval are in order and apart; {low:g} and {high:g}")
    if log and low <= 0:
        raise Refused(f"a logarithm needs numbers above 0, and this begins at {low:g}")
    if log and step not in (None, 1):
        raise Refused("tag(log, …) takes an interval, or a range of whole numbers without a step")
    if whole:
        step = step or 1
    return Numbers(key, low, high, step, log)
