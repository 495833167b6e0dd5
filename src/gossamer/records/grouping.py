"""Which runs share a row, and what is said about it.

By default a row is one configuration (its digest); with keys, it is one value of each. Whatever the
keys, runs of different data, tasks, budgets or metrics never share one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gossamer.records.runs import CHOICES, Identity, Key, Run, apart, one_of

MOST = 12  # lines of a kind of note
Note = tuple[str, str, str]  # before the row's title, the title, after it

# Keys that change no result (cli/rundir.py leaves them out of the digest), or follow from others.
IDLE = frozenset({"seed", "outputs", "name", "rerun", "digest", "directory", "sweep"})
IDLE_PARTS = ("logger.", "twin_config.")
IDLE_TRAINER = frozenset({"trainer.progress", "trainer.log_every", "trainer.checkpoint_every"})
CHOSEN = ("model", "compression")  # choices that bring keys of their own


@dataclass(eq=False)
class Group:
    """The runs of a row, in the order of their seeds."""

    runs: list[Run]
    by: dict[str, Key]  # {} by default

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        """Each once, however many configurations the row averages over."""
        return list(dict.fromkeys(run.record.seed for run in self.runs))

    @property
    def dense(self) -> bool:
        return not any(run.methods for run in self.runs)

    @cached_property
    def over(self) -> dict[str, list[Key]]:
        """The keys that the row averages over, with their values."""
        return varying(self.runs) if self.by else {}

    def choice(self, name: str) -> str:
        """The choice's value; several ones joined, where the keys do not tell them apart."""
        return ", ".join(dict.fromkeys(_choice(run, name) for run in self.runs))

    @property
    def title(self) -> str:
        if self.by:
            keys = [text(key, value) for key, value in self.by.items() if key not in CHOICES]
            chosen = [self.choice(n) for n in CHOICES if n in self.by or n in ("dataset", "task")]
            return " ".join([*chosen, *keys])
        words = " ".join(self.choice(name) for name in CHOICES)
        return f"{words} ({self.first.record.config_digest[:8]})"


def text(key: str, value: Any) -> str:
    return f"{key}={'null' if value is None else value}"


def groups(every: Iterable[Run], by: Sequence[str]) -> tuple[list[Group], list[str]]:
    """The rows, and notes on what was not mixed and on what a row averages over."""
    found: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in every:
        found[_identity(run, by) + _terms(run)].append(run)
    rows = [
        Group(
            sorted(members, key=lambda run: run.record.seed),
            {key: members[0].keys.get(key) for key in by},
        )
        for members in found.values()
    ]
    return rows, [*_kept_apart(rows), *_averaged(rows), *_versions(rows)]


def varying(runs: Sequence[Run]) -> dict[str, list[Key]]:
    """The keys in which runs differ although the result depends on them, with their values. Of a
    choice that differs, the choice alone."""
    if len({run.record.config_digest for run in runs}) < 2:
        return {}
    names = dict.fromkeys(name for run in runs for name in run.keys)
    values = {name: list(dict.fromkeys(run.keys.get(name) for run in runs)) for name in names}
    found = {n: seen for n, seen in values.items() if len(seen) > 1 and not idle(n)}
    chosen = tuple(f"{name}." for name in CHOSEN if name in found)
    return {name: seen for name, seen in found.items() if not name.startswith(chosen)}


def idle(key: str) -> bool:
    """Whether a key cannot change a result."""
    return key in IDLE or key in IDLE_TRAINER or key.startswith(IDLE_PARTS)


def gathered(notes: Iterable[Note], of: str = "rows") -> list[str]:
    """A line for all rows of which the same is to be said: the first by name, and how many more."""
    alike: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for before, title, after in notes:
        alike[before, after][title] = None
    lines = [
        f"{before}{next(iter(titles))}"
        + (f" (and {len(titles) - 1} more {of})" if len(titles) > 1 else "")
        + after
        for (before, after), titles in alike.items()
    ]
    more = len(lines) - MOST
    return [*lines[:MOST], f"… and {more} more such notes"] if more > 0 else lines


def _choice(run: Run, name: str) -> str:
    if name == "compression":
        return "+".join(run.methods) or "none"
    return getattr(run.record.choices, name)


def _identity(run: Run, by: Sequence[str]) -> tuple[Any, ...]:
    if by:
        keys = run.keys
        choices = run.record.choices
        return (choices.dataset, choices.task, run.data, *(keys.get(key) for key in by))
    return (*(_choice(run, name) for name in CHOICES), run.record.config_digest)


def _terms(run: Run) -> tuple[Any, ...]:
    """What must be equal besides, before two runs may be averaged."""
    budget, quality = run.record.budget, run.record.quality
    return (
        budget.start,
        budget.base,
        budget.steps,
        budget.unspent,
        budget.pair_equal,
        tuple(budget.twin),
        quality.primary,
        quality.direction,
        quality.split,
        run.record.compute.workload,
    )


def _kept_apart(rows: Sequence[Group]) -> list[str]:
    alike: dict[tuple[Any, ...], list[Group]] = defaultdict(list)
    for row in rows:
        alike[tuple(row.by.values()) if row.by else _identity(row.first, ())].append(row)
    data: list[Note] = []
    budgets: list[Note] = []
    for several in alike.values():
        title = several[0].title
        if several[0].by:
            title = " ".join(text(key, value) for key, value in several[0].by.items())
        on: dict[str, Counter[Identity]] = defaultdict(Counter)  # data set and task -> its rows
        for row in several:
            of = row.first.data if row.by else ()  # without keys, the digest has it
            on[f"{row.choice('dataset')} ({row.choice('task')})"][of] += 1
        if len(on) > 1:
            told = f" was run on {one_of(sorted(on))}; each has its own row"
            data.append(("not mixed: ", title, told))
        for name, seen in on.items():
            if len(seen) > 1:
                told = f" was run on {name} with {apart(seen)}; each has its own row"
                data.append(("not mixed: ", title, told))
        if (most := max(count for seen in on.values() for count in seen.values())) > 1:
            told = (
                f" was run with {most} different budgets, starts or metrics; each has its own row"
            )
            budgets.append(("not mixed: ", title, told))
    return [*gathered(data), *gathered(budgets)]


def _averaged(rows: Sequence[Group]) -> list[str]:
    """What the keys left out and rows therefore average over."""
    over: dict[str, dict[Key, None]] = defaultdict(dict)
    titles: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for key, values in row.over.items():
            over[key] |= dict.fromkeys(values)
            titles[key].append(row.title)
    return gathered(
        (f"averages over {key} ({one_of(ordered(values))}): ", title, "")
        for key, values in over.items()
        for title in titles[key]
    )


def ordered(values: Iterable[Key]) -> list[Key]:
    """Numbers by size, then texts, then null."""
    return sorted(values, key=lambda v: (v is None, isinstance(v, str), v if v is not None else 0))


def _versions(rows: Sequence[Group]) -> list[str]:
    counts = [(row.title, len({run.record.git.commit for run in row.runs})) for row in rows]
    return gathered(
        ("note: the seeds of ", title, f" were run with {count} versions of the code")
        for title, count in counts
        if count > 1
    )
