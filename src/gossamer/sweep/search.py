"""A search: ask Optuna for trials, run each as a job of the sweep, tell how it ended.

Only this process samples; a job is told one resolved configuration, as in any sweep. What is known
of a trial lies in the study, what is known of a job in the sweep's folder, and what came out in the
run's directory: a search that was cut at any moment goes on from these.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from optuna.study import Study
from optuna.trial import Trial, TrialState

from gossamer.errors import ConfigError, ResumeError
from gossamer.records import record as records
from gossamer.sweep import jobs as sweeps
from gossamer.sweep import study as studies
from gossamer.sweep.driving import Workers, stop_signals
from gossamer.sweep.jobs import BAD, Job, State
from gossamer.sweep.objectives import NoFigure, Objective, reported

LOOK = 0.2  # seconds between two looks at what runs
OVERRIDES, RUN, ERROR, ENDED, PRUNED = "overrides", "run", "error", "ended", "pruned"


class Space(Protocol):
    """What is searched."""

    def propose(self, trial: Trial) -> Job:
        """Ask `trial` for its values and freeze the job that has them. ConfigError if they do not
        go together."""

    def grid(self) -> Iterator[Mapping[str, Any]]:
        """The values of every trial that there can be, in order, each once."""


class Talk(Protocol):
    def __call__(self, text: str) -> None: ...


@dataclass
class Flight:
    """A job under way and the trials that wait for it: one, unless equal values were asked for."""

    job: Job
    trials: list[Trial]
    steps: set[int] = field(default_factory=set)  # of which the study knows the value
    pruned: bool = False


@dataclass
class Search:
    """One start of a search.

    Args:
        study, space, workers, objectives: what it is made of.
        folder: of the sweep, with its manifest.
        wanted: trials in the end, those of earlier starts included.
        slots: trials under way at once.
        sampler, seed, options: see study.sampler.
        watched: the validation metric that is reported while a job works; None: of several
            objectives there is none.
        prune: may a trial be given up?
        stop_on_error: ask for no further trial after one that failed.
        say: told a line when something begins or ends.
    """

    study: Study
    space: Space
    workers: Workers
    objectives: Sequence[Objective]
    folder: Path
    wanted: int
    slots: int
    say: Talk
    sampler: studies.SamplerName = "tpe"
    seed: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    watched: str | None = None
    prune: bool = False
    stop_on_error: bool = False
    flights: dict[str, Flight] = field(default_factory=dict)  # by run directory
    closing: bool = False  # no trial is begun any more

    def run(self) -> None:
        """Go on until `wanted` trials were asked for and have ended, or until told to stop: then
        jobs of this process save their state, and those of a queue go on alone."""
        left = deque(studies.unfinished(self.study))
        stopping = False
        with self.workers, stop_signals() as asked:
            while True:
                if asked and self.workers.queued:
                    return
                if asked and not stopping:
                    self.closing = stopping = True
                    self._cancel()
                    for flight in self.flights.values():
                        flight.job.stop()
                self._fill(left, asked)
                if not self.flights:
                    return
                self._look(stopping)
                time.sleep(LOOK)

    def _fill(self, left: deque[Trial], asked: Sequence[int]) -> None:
        """Begin as many trials as there are free slots."""
        while not self.closing and not asked and self._under_way() < self.slots:
            trial = left.popleft() if left else self._ask()
            if trial is None:
                return
            self._begin(trial)

    def _under_way(self) -> int:
        return sum(len(flight.trials) for flight in self.flights.values())

    def _ask(self) -> Trial | None:
        """A new trial; None if there are enough, or the grid has no other."""
        if studies.asked(self.study) >= self.wanted:
            return None
        known = studies.trials(self.study)
        waiting = any(each.state == TrialState.WAITING for each in known)
        if self.sampler == "grid" and not waiting:
            tried = [dict(each.params) for each in known]
            values = next((each for each in self.space.grid() if each not in tried), None)
            if values is None:
                return None
            self.study.enqueue_trial(dict(values))
        self.study.sampler = studies.sampler(self.sampler, self.seed, len(known), self.options)
        return self.study.ask()

    def _begin(self, trial: Trial) -> None:
        try:
            job = self.space.propose(trial)
        except ConfigError as error:
            self._failed(trial, "misconfigured", "; ".join(error.problems))
            return
        trial.set_user_attr(OVERRIDES, list(job.overrides))
        trial.set_user_attr(RUN, str(job.directory))
        twin = self.flights.get(job.directory)
        if twin is not None:
            twin.trials.append(trial)
            return
        flight = Flight(job, [trial], _reported(trial), PRUNED in trial.user_attrs)
        state = self._settled(flight)
        sweeps.add(self.folder, job, state if state and state.name == "skipped" else None)
        if state is not None:
            self._report(flight)
            self._settle(flight, state)
            return
        self.flights[job.directory] = flight
        job.submitted()
        self.workers.start([job])
        self.say(f"trial {trial.number} running  {job.title}")

    def _settled(self, flight: Flight) -> State | None:
        """How the job ended before, where it need not run: done by whatever command, failed, or
        given up while the same values were tried."""
        job = flight.job
        retry = studies.AGAIN in flight.trials[0].user_attrs
        state = sweeps.settle(job, retry=retry, rerun=False)
        if state is not None:
            return state
        before = job.state()
        given_up = before.name == "pruned" and self.prune
        if given_up or (flight.pruned and before.name in ("preempted", "pruned")):
            flight.pruned = True
            return before
        return None

    def _look(self, stopping: bool) -> None:
        """Report what the jobs have logged, give up what is bad, and tell what has ended."""
        for flight in self.flights.values():
            if self._report(flight) and self.prune and not flight.pruned and not stopping:
                self._judge(flight)
        over = self.workers.ended([flight.job for flight in self.flights.values()])
        for job in over:
            flight = self.flights.pop(job.directory)
            self._report(flight)
            self._settle(flight, job.state())

    def _report(self, flight: Flight) -> bool:
        """Pass on the values that were logged since the last look; were there any?"""
        if self.watched is None:
            return False
        fresh: dict[
            int, float
        ] = {}  # a step where one stage ends and the next begins is there twice
        for step, value in reported(flight.job.run, self.watched):
            if step not in flight.steps:
                fresh.setdefault(step, value)
        for step, value in fresh.items():
            flight.steps.add(step)
            for trial in flight.trials:
                trial.report(value, step)
        return bool(fresh)

    def _judge(self, flight: Flight) -> None:
        if not all(trial.should_prune() for trial in flight.trials):
            return
        flight.pruned = True
        for trial in flight.trials:
            trial.set_user_attr(PRUNED, max(flight.steps))
        flight.job.stop()

    def _settle(self, flight: Flight, state: State) -> None:
        """Tell the study how a job ended. What saved its state and was not given up is told
        nothing: the next start goes on with it."""
        if state.name in ("done", "skipped"):
            self._done(flight)
        elif flight.pruned and state.name in ("preempted", "pruned"):
            step = max(flight.steps, default=0)
            if state.name != "pruned":
                reason = f"given up at step {step}"
                flight.job.note(replace(state, name="pruned", error=reason))
            for trial in flight.trials:
                self.study.tell(trial, state=TrialState.PRUNED)
                self.say(f"trial {trial.number} pruned at step {step}  {flight.job.title}")
        elif state.name in BAD:
            for trial in flight.trials:
                self._failed(trial, state.name, state.error, flight.job)
        else:
            for trial in flight.trials:
                self.say(f"trial {trial.number} {state.name}  {flight.job.title}")

    def _done(self, flight: Flight) -> None:
        run = flight.job.run
        try:
            record = records.read(run / "record.json")
            values = [each.value(record, run) for each in self.objectives]
        except (NoFigure, ResumeError) as error:
            for trial in flight.trials:
                self._failed(trial, "done", str(error), flight.job)
            return
        for trial in flight.trials:
            self.study.tell(trial, values)
            figures = zip(self.objectives, values, strict=True)
            told = ", ".join(f"{each.title} {value:.6g}" for each, value in figures)
            self.say(f"trial {trial.number} done: {told}  {flight.job.title}")

    def _failed(self, trial: Trial, ended: str, error: str, job: Job | None = None) -> None:
        """A failed trial has no value: one that was made up would lead the search astray."""
        trial.set_user_attr(ENDED, ended)
        trial.set_user_attr(ERROR, error)
        self.study.tell(trial, state=TrialState.FAIL)
        log = f" (log: {job.path('log')})" if job and ended in BAD else ""
        self.say(f"trial {trial.number} failed: {error or ended}{log}")
        if self.stop_on_error and not self.closing:
            self.closing = True
            self._cancel()

    def _cancel(self) -> None:
        self.workers.cancel([flight.job for flight in self.flights.values()])


def _reported(trial: Trial) -> set[int]:
    """The steps of which the study has a value, from an earlier driver."""
    return {*trial.storage.get_trial(trial._trial_id).intermediate_values}
