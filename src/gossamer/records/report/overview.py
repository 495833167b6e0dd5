"""What won, at what cost, with the interval: a few sentences for each scope.

The statistics are those of `gossamer compare`: t intervals over seeds, and differences paired at
equal seeds. A figure whose interval reaches the other's is never called better, and a single seed
is called one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gossamer.records.report.estimates import Estimate, between, quality, to_twin
from gossamer.records.report.groups import Group, Scope
from gossamer.records.report.ledgers import bargains, cost


@dataclass
class Verdict:
    """`headline` is the sentence; `tone`: gain, even, loss or open; `best`: the configuration."""

    headline: str
    tone: str
    details: list[str] = field(default_factory=list)
    best: Group | None = None


def verdict(scope: Scope, groups: Sequence[Group], unfinished: int) -> Verdict:
    """The sentences of one scope; `unfinished` counts its runs that failed or were cut."""
    small = [group for group in groups if group.method != "none"]
    ranked = _ranked(small)
    cut = []
    if unfinished:
        one = unfinished == 1
        runs, they = ("run", "it is") if one else ("runs", "they are")
        cut = [f"{unfinished} more {runs} did not finish; {they} listed below."]
    if not small:
        return _only_dense(groups, cut)
    if not ranked:
        text = f"No configuration has a finite test {scope.metric} for each of its seeds."
        return Verdict(text, "open", cut)
    best = ranked[0]
    winners = [group for group in ranked if _against_twin(group) == 1]
    headline, tone = _headline(ranked, winners)
    other = winners[0] if winners and best not in winners else None  # two are spoken of
    missing = len(small) - len(ranked)
    details = [
        *_rivals(best, ranked[1:], best.label if other else ""),
        cost(best, best.label if other else ""),
        *([cost(other, other.label)] if other else []),
        *bargains(best, ranked),
        *([f"{missing} left out of this: a seed's {scope.metric} is not finite."] * bool(missing)),
        *_budgets(small),
        *cut,
    ]
    return Verdict(headline, tone, details, best)


def _ranked(groups: Sequence[Group]) -> list[Group]:
    """By mean quality, best first, those with a mean."""
    scored = [(group, found.mean) for group in groups if (found := quality(group)) is not None]
    up = bool(groups) and groups[0].scope.direction == "max"
    return [group for group, _ in sorted(scored, key=lambda pair: pair[1], reverse=up)]


def _against_twin(group: Group) -> int | None:
    """1: shown to be better than its dense twin; -1: shown to be worse; 0: neither; None: there
    is no interval to show anything."""
    change = to_twin(group)
    if change is None or change.half is None:
        return None
    return change.shown() * (1 if group.scope.direction == "max" else -1)


def _only_dense(groups: Sequence[Group], cut: list[str]) -> Verdict:
    ranked = _ranked(groups)
    found = quality(ranked[0]) if ranked else None
    told = f": test {groups[0].scope.metric} {found.text()}" if found else ""
    text = f"Only the dense model is finished here{told}."
    return Verdict(text, "open", ["Nothing to compare yet: run it with compression=…", *cut])


def _headline(ranked: Sequence[Group], winners: Sequence[Group]) -> tuple[str, str]:
    """The sentence and its tone. `winners` are those that are shown to beat their twin; of "no
    method" is spoken only if there is none, whatever the best mean's own difference."""
    best = ranked[0]
    value, change = quality(best), to_twin(best)
    assert value is not None
    have = f"test {best.scope.metric} {value.text()}"
    if winners and winners[0] is not best:
        return _not_the_best(best, have, change, winners)
    pair = _pair(best)
    if change is None:
        return f"Best is {best.label}: {have}. Its dense twin's is not finite.", "open"
    against = f"{change.change()} against its dense twin"
    if winners:
        return f"{best.label} beats the dense model: {have}, {against}.{pair}", "gain"
    if change.half is None:
        text = f"One seed only, so nothing is shown: best is {best.label}, {have}, {against}.{pair}"
        return text, "open"
    lost = all(_against_twin(group) == -1 for group in ranked)
    found = "No method beats" if lost else "No method is shown to beat"
    why = "" if change.shown() else f"; {_unshown(change)}"
    text = f"{found} the dense model. Best is {best.label}: {have}, {against}{why}.{pair}"
    return text, "loss" if lost else "even"


def _not_the_best(
    best: Group, have: str, change: Estimate | None, winners: Sequence[Group]
) -> tuple[str, str]:
    """The best mean is one configuration's, a gain is shown for others."""
    first = winners[0]
    value, gain = quality(first), to_twin(first)
    assert value is not None and gain is not None
    does = f"{first.label} beats its own"
    if change is None:
        but = "whose dense twin's is not finite"
    elif change.half is None:
        but = f"of which one seed shows nothing ({change.change()} against its dense twin)"
    elif change.shown():
        but, does = f"which does not beat its dense twin ({change.change()})", f"{first.label} does"
    else:
        but = f"which is not shown to beat its dense twin ({change.change()}; {_unshown(change)})"
    more = len(winners) - 1
    rest = f" So do{'es' * (more == 1)} {more} more." if more else ""
    text = (
        f"The best mean is {best.label}: {have}, {but}; {does}, by {gain.change()}, "
        f"at {value.text()}.{rest}{_pair(first)}"
    )
    return text, "gain"


def _unshown(change: Estimate) -> str:
    """Why several seeds show no difference."""
    if change.p is None:
        return "its seeds differ by exactly the same, which is no spread to judge by"
    return "the interval contains 0"


def _pair(group: Group) -> str:
    equal = all(run.record.budget.pair_equal for run in group.seeds.runs)
    return "" if equal else " The pair is not equal: another model or number of steps."


def _rivals(best: Group, others: Sequence[Group], name: str) -> list[str]:
    """Whether the best is told apart from the rest, which the mean alone does not say. `name`: of
    the best, where a sentence must say whom it is about."""
    if not others:
        return []
    sign = 1 if best.scope.direction == "max" else -1
    apart: list[tuple[Group, Estimate | None]] = []
    alike: list[tuple[Group, Estimate | None]] = []
    for other in others:
        found = between(best, other)
        told = found is not None and found.shown() * sign > 0
        (apart if told else alike).append((other, found))
    if not alike:
        other, found = apart[0]
        assert found is not None
        rest = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
        ahead = f"{name} is ahead" if name else "Ahead"
        return [f"{ahead} of {other.label}{rest}: by {found.change()} at equal seeds."]
    other, found = alike[0]
    by = f", {found.change()} at equal seeds" if found else ", no seed in common"
    rest = f" (nor from {len(alike) - 1} more)" if len(alike) > 1 else ""
    lines = [f"{name or 'It'} cannot be told apart from {other.label}{by}{rest}."]
    if len(others) > 1:
        lines.append(
            f"Chosen by its mean as the best of {len(others) + 1}, so that mean is likely too good."
        )
    return lines


def _budgets(groups: Sequence[Group]) -> list[str]:
    totals = Counter(group.first.record.budget.total for group in groups)
    if len(totals) < 2:
        return []
    steps = ", ".join(str(total) for total in sorted(totals))
    return [f"Budgets differ ({steps} steps): each is fair to its own twin, not to the others."]
