"""What a person sees of a sweep: a line when a job begins or ends, and the table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gossamer.errors import DONE, FAILED, PREEMPTED
from gossamer.records.table import stdout
from gossamer.sweep.jobs import BAD, GOOD, Job, State

STYLES = {"done": "green", "failed": "red", "out of memory": "red", "killed": "red", "lost": "red"}


def show(jobs: Sequence[Job], states: Sequence[State]) -> None:
    """Print a row for each job, and the count of each state."""
    from rich.table import Table
    from rich.text import Text

    console = stdout(whole=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "state", "seconds", "overrides", "run", "why"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    common = shared(jobs)
    for place, (job, state) in enumerate(zip(jobs, states, strict=True)):
        table.add_row(
            f"#{place}",
            Text(state.name, style=STYLES.get(state.name, "")),
            f"{state.seconds:.1f}" if state.seconds else "",
            Text(_own(job, common)),
            Text(job.directory),
            Text(state.error),
        )
    console.print(table)
    console.print(counts(states))


def counts(states: Sequence[State]) -> str:
    """ "3 done, 1 failed", the good first."""
    found = Counter(state.name for state in states)
    order = sorted(found, key=lambda name: (name in BAD, name not in GOOD, name))
    return ", ".join(f"{found[name]} {name}" for name in order) or "no job"


def status(states: Sequence[State]) -> int:
    """The exit status of a sweep: 0 all done, 1 one failed, 3 none failed but not all are done."""
    names = {state.name for state in states}
    if names & BAD:
        return FAILED
    return DONE if names <= GOOD else PREEMPTED


def line(job: Job, state: State, place: int, common: frozenset[str]) -> str:
    """A line for the job at `place`, that begins or ends, without the overrides `common` to all."""
    own = _own(job, common)
    if state.name in ("waiting", "running"):
        return f"#{place} {'queued' if state.name == 'waiting' else 'running'}  {own}"
    seconds = f" in {state.seconds:.1f} s" if state.seconds else ""
    why = f": {state.error}" if state.error else ""
    log = f" (log: {job.path('log')})" if state.name in BAD else ""
    return f"#{place} {state.name}{seconds}  {own}{why}{log}"


def shared(jobs: Sequence[Job]) -> frozenset[str]:
    """The overrides that all of several jobs have."""
    if len(jobs) < 2:
        return frozenset()
    return frozenset.intersection(*(frozenset(job.overrides) for job in jobs))


def _own(job: Job, common: frozenset[str]) -> str:
    return " ".join(each for each in job.overrides if each not in common) or job.title
