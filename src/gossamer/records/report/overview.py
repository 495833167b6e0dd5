"""What won, at what cost, with the interval: a few sentences for each scope.

The statistics are those of `gossamer compare`: t intervals over seeds, and differences paired at
equal seeds. A figure whose interval reaches the other's is never called better, and a single seed
is called one.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gossamer.records.intervals import mean_interval
from gossamer.records.report.groups import Group, Scope
from gossamer.records.table import speed_up

SAME = 0.01  # ledgers that differ by less than this share are called equal
Label = Callable[[Mapping[str, Any]], str]  # a timed entry's setting, in words


@dataclass
class Verdict:
    """`headline` is the sentence; `tone`: gain, even, loss or open; `best`: the configuration."""

    headline: str
    tone: str
    details: list[str] = field(default_factory=list)
    best: Group | None = None


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and half the width of its 95% interval; None: one seed has none."""

    mean: float
    half: float | None
    n: int

    def text(self) -> str:
        """0.7923 ± 0.0148 (5 seeds)"""
        return f"{self.mean:.4f}{self._spread()} ({self.n} seed{'s' * (self.n != 1)})"

    def change(self) -> str:
        """+0.0020 ± 0.0148, with a true minus sign"""
        return f"{self.mean:+.4f}".replace("-", "−") + self._spread()

    def _spread(self) -> str:
        return "" if self.half is None else f" ± {self.half:.4f}"

    def side(self) -> int:
        """1 or -1 if the whole interval is above or below 0, else 0."""
        if self.half is None or abs(self.mean) <= self.half:
            return 0
        return 1 if self.mean > 0 else -1


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """None if a value is missing: a mean of what is left would flatter it."""
    finite = [value for value in values if value is not None]
    if not finite or len(finite) < len(values):
        return None
    return Estimate(*mean_interval(finite), len(finite))


def quality(group: Group) -> Estimate | None:
    return estimate([r["quality"]["compressed"].get(group.scope.metric) for r in group.members])


def to_twin(group: Group) -> Estimate | None:
    """Compressed minus dense, seed by seed."""
    metric = group.scope.metric
    pairs = [(r["quality"]["compressed"], r["quality"]["dense"]) for r in group.members]
    return _differences([(a.get(metric), b.get(metric)) for a, b in pairs])


def between(one: Group, other: Group) -> Estimate | None:
    """`one` minus `other` at the seeds that both have."""
    metric = one.scope.metric
    theirs = {r["seed"]: r["quality"]["compressed"].get(metric) for r in other.members}
    return _differences(
        [
            (r["quality"]["compressed"].get(metric), theirs[r["seed"]])
            for r in one.members
            if r["seed"] in theirs
        ]
    )


def _differences(pairs: Sequence[tuple[float | None, float | None]]) -> Estimate | None:
    return estimate([None if a is None or b is None else a - b for a, b in pairs])


def verdict(scope: Scope, groups: Sequence[Group], unfinished: int, label: Label) -> Verdict:
    """The sentences of one scope; `unfinished` counts its runs that failed or were cut."""
    small = [group for group in groups if group.method != "none"]
    ranked = _ranked(small)
    cut = []
    if unfinished:
        one = unfinished == 1
        runs, they = ("run", "it is") if one else ("runs", "they are")
        cut = [f"{unfinished} more {runs} did not finish; {they} listed below."]
    if not small:
        return _only_dense(scope, groups, cut)
    if not ranked:
        text = f"No configuration has a finite test {scope.metric} for each of its seeds."
        return Verdict(text, "open", cut)
    best = ranked[0]
    found = _headline(best)
    found.best = best
    missing = len(small) - len(ranked)
    found.details = [
        *_rivals(best, ranked[1:]),
        cost(best, label),
        *_bargains(best, ranked, label),
        *([f"{missing} left out of this: a seed's {scope.metric} is not finite."] * bool(missing)),
        *_budgets(small),
        *cut,
    ]
    return found


def _ranked(groups: Sequence[Group]) -> list[Group]:
    """By mean quality, best first, those with a mean."""
    scored = [(group, found.mean) for group in groups if (found := quality(group)) is not None]
    up = bool(groups) and groups[0].scope.direction == "max"
    return [group for group, _ in sorted(scored, key=lambda pair: pair[1], reverse=up)]


def _only_dense(scope: Scope, groups: Sequence[Group], cut: list[str]) -> Verdict:
    ranked = _ranked(groups)
    found = quality(ranked[0]) if ranked else None
    told = f": test {scope.metric} {found.text()}" if found else ""
    text = f"Only the dense model is finished here{told}."
    return Verdict(
        text, "open", ["Nothing to compare yet: run it with compression=…", *cut], best=None
    )


def _headline(best: Group) -> Verdict:
    scope = best.scope
    value, change = quality(best), to_twin(best)
    assert value is not None
    have = f"test {scope.metric} {value.text()}"
    if change is None:
        text = f"Best is {best.label}: {have}. Its dense twin's is not finite."
        return Verdict(text, "open")
    sign = 1 if scope.direction == "max" else -1
    against = f"{change.change()} against its dense twin"
    equal = all(record["budget"]["pair_equal"] for record in best.members)
    pair = "" if equal else " The pair is not equal: another model or number of steps."
    if change.half is None:
        text = (
            f"One seed only, so nothing is shown: best is {best.label}, {have}, "
            f"{change.change()} against its dense twin.{pair}"
        )
        return Verdict(text, "open")
    match change.side() * sign:
        case 1:
            return Verdict(f"{best.label} beats the dense model: {have}, {against}.{pair}", "gain")
        case -1:
            return Verdict(
                f"No method beats the dense model. Best is {best.label}: {have}, {against}.{pair}",
                "loss",
            )
    return Verdict(
        f"No method is shown to beat the dense model. Best is {best.label}: {have}, {against}; "
        f"the interval contains 0.{pair}",
        "even",
    )


def _rivals(best: Group, others: Sequence[Group]) -> list[str]:
    """Whether the best is told apart from the rest, which the mean alone does not say."""
    if not others:
        return []
    sign = 1 if best.scope.direction == "max" else -1
    apart: list[tuple[Group, Estimate | None]] = []
    alike: list[tuple[Group, Estimate | None]] = []
    for other in others:
        found = between(best, other)
        told = found is not None and found.side() * sign > 0
        (apart if told else alike).append((other, found))
    if not alike:
        other, found = apart[0]
        assert found is not None
        rest = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
        return [f"Ahead of {other.label}{rest}: by {found.change()} at equal seeds."]
    other, found = alike[0]
    by = f", {found.change()} at equal seeds" if found else ", no seed in common"
    rest = f" (nor from {len(alike) - 1} more)" if len(alike) > 1 else ""
    lines = [f"It cannot be told apart from {other.label}{by}{rest}."]
    if len(others) > 1:
        lines.append(
            f"Chosen by its mean as the best of {len(others) + 1}, so that mean is likely too good."
        )
    return lines


def cost(group: Group, label: Label) -> str:
    """The ledgers of one configuration, each by its name; "no gain" where there is none."""
    stored = ratio(group, "size", "checkpoint_bytes", "dense_checkpoint_bytes")
    done = ratio(group, "compute", "macs_effective", "macs_dense")
    theory = ratio(group, "compute", "macs_nonzero", "macs_dense")
    timed = speed_ups(group, label)
    told = ", ".join(f"{word} at {name}" for name, word in timed.items())
    faster = any("faster" in word for word in timed.values())
    gain = stored < 1 - SAME or done < 1 - SAME or faster
    trained = ratio(group, "size", "trainable_parameters", "dense_parameters")
    parts = [
        f"{_mean(group, 'size', 'checkpoint_bytes') / 1e6:.2f} MB on disk ({_percent(stored)})",
        f"MACs executed {_percent(done)}",
        f"measured {told}" if timed else "latency not measured for every seed",
    ]
    if theory < done - SAME:
        parts.insert(2, f"MACs of non-zeros {_percent(theory)} (theory only)")
    return (
        f"{'Its cost' if gain else 'No gain once trained'}: {'; '.join(parts)}. "
        f"Shares are of the dense model; it trained {_percent(trained)} of the parameters."
    )


def _bargains(best: Group, ranked: Sequence[Group], label: Label) -> list[str]:
    """The smallest that is not shown to lose, and the fastest that was measured."""
    sign = 1 if best.scope.direction == "max" else -1
    lines = []
    level = [
        group
        for group in ranked
        if (found := to_twin(group)) is not None
        and found.half is not None
        and found.side() * sign >= 0
    ]
    least = min(level, key=lambda group: _mean(group, "size", "checkpoint_bytes"), default=None)
    share = ratio(least, "size", "checkpoint_bytes", "dense_checkpoint_bytes") if least else 1.0
    if least is not None and least is not best and share < 1 - SAME:
        found = to_twin(least)
        assert found is not None
        size = _mean(least, "size", "checkpoint_bytes") / 1e6
        lines.append(
            f"Smallest without a shown loss: {least.label}, {size:.2f} MB on disk "
            f"({_percent(share)}), {found.change()}."
        )
    fastest = [
        (ups[0], group, name)
        for group in ranked
        for name, ups in measured(group, label).items()
        if "faster" in speed_up(*ups)
    ]
    if fastest:
        up, group, name = max(fastest, key=lambda entry: entry[0])
        found = to_twin(group)
        lost = f", {found.change()}" if found else ""
        if group is not best:
            lines.append(f"Fastest measured: {group.label}, {up:.2f}× at {name}{lost}.")
    elif any(measured(group, label) for group in ranked):
        lines.append("No configuration is measured to be faster than its dense twin.")
    return lines


def _budgets(groups: Sequence[Group]) -> list[str]:
    totals = Counter(group.members[0]["budget"]["total"] for group in groups)
    if len(totals) < 2:
        return []
    steps = ", ".join(str(total) for total in sorted(totals))
    return [f"Budgets differ ({steps} steps): each is fair to its own twin, not to the others."]


def measured(group: Group, label: Label) -> dict[str, tuple[float, float, float]]:
    """Setting -> dense / compressed time: the geometric mean over seeds and the widest of their
    intervals, where every seed was measured."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for record in group.members:
        for entry in record["speed"]:
            if "skipped" not in entry:
                found.setdefault(label(entry), []).append(entry["speed_up"])
    return {
        name: (
            math.exp(math.fsum(math.log(each["p50"]) for each in ups) / len(ups)),
            min(each["low"] for each in ups),
            max(each["high"] for each in ups),
        )
        for name, ups in found.items()
        if len(ups) == len(group.members)
    }


def speed_ups(group: Group, label: Label) -> dict[str, str]:
    """The same in words, by the rule of the end-of-run table."""
    found = {}
    for name, (p50, low, high) in measured(group, label).items():
        word = speed_up(p50, low, high)
        found[name] = word if word == "no speed-up" else f"{word} [{low:.2f}, {high:.2f}]"
    return found


def ratio(group: Group, ledger: str, part: str, whole: str) -> float:
    dense = _mean(group, ledger, whole)
    return _mean(group, ledger, part) / dense if dense else 1.0


def _mean(group: Group, ledger: str, name: str) -> float:
    return sum(record[ledger][name] for record in group.members) / len(group.members)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
