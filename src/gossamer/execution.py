"""Runs the stages of a run with Lightning, one after another, and resumes them where they
stopped."""

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import crew, fit
from gossamer.contract import Batch, Output, Stage, Teacher
from gossamer.errors import StageError
from gossamer.interruption import interruption
from gossamer.journal import Journal
from gossamer.models.capture import captured
from gossamer.models.parts import feature_paths
from gossamer.seeds import derive, seed_everything
from gossamer.sparsity import masks
from gossamer.stages import Experiment, Watch, placed

UNIT_SECONDS = (
    5.0  # units that are no module are saved at most this often, for each is a whole model
)


def execute(
    experiment: Experiment,
    model: nn.Module,
    plans: dict[str, list[Stage]],
    journal: Journal,
    first: int,
    watch: Watch,
) -> list[dict[str, Any]]:
    """Take `model` through every stage of `plans`, in place; returns a row for each stage.

    `plans` maps a method's name (or any other word, for training without a method) to its stages.
    `first` is the step axis' value when the run begins. A stage that the journal has finished is
    not repeated. Afterwards `model.held` has the zeros that sparse methods left, by module path."""
    zeros: dict[str, Tensor] = {}  # module path -> True where the weight is kept
    model.held = zeros  # type: ignore[assignment]
    wanted = {stage.teacher for plan in plans.values() for stage in plan if stage.teacher}
    teachers = {"start": _teacher(experiment, model)} if "start" in wanted else {}
    rows: list[dict[str, Any]] = []
    index = 0
    for owner, plan in plans.items():
        method = experiment.methods.get(owner)
        # by parameter, for `prepare` may wrap the module
        held = [(model.get_parameter(f"{path}.weight"), keep) for path, keep in zeros.items()]
        if any(stage.teacher == "before" for stage in plan):
            teachers["before"] = _teacher(experiment, model)
        if method is not None:
            method.prepare(model)
        unread = None  # a finished stage whose weights were not loaded yet
        for stage in plan:
            row = journal.finished(index)
            if row is not None:
                unread = index
            else:
                if unread is not None:
                    journal.restore(unread, model)
                    unread = None
                before = (
                    rows[-1]["quality_after"] if rows else experiment.evaluate(model, "validation")
                )
                run = _Run(experiment, model, method, journal, index, first, watch, held, teachers)
                row = run.stage(owner, stage, before)
            if stage.name in wanted:
                if unread is not None:
                    journal.restore(unread, model)
                    unread = None
                teachers[stage.name] = _teacher(experiment, model)
            rows.append(row)
            first += stage.steps
            index += 1
        if unread is not None:
            journal.restore(unread, model)
        teachers.pop("before", None)
        if method is not None:
            method.finalize(model)
            zeros |= _zeros(method, model)
    return rows


def _zeros(method: Any, model: nn.Module) -> dict[str, Tensor]:
    """The zeros that a sparse method left, as in `model.held`."""
    if "sparse weights" not in method.produces:
        return {}
    weights = [fact for fact in method.ledger(model) if fact.dense_macs is None]
    sparse = [fact.name for fact in weights if fact.density < 1 and not fact.skipped]
    return {name: masks.of_zeros(model.get_submodule(name)) for name in sparse}


@dataclass(frozen=True)
class Frozen:
    """A teacher: a model as it was, in eval mode. An object, for it travels to other ranks."""

    model: nn.Module
    task: Any
    capture: tuple[str, ...] = ()  # modules whose outputs are its output's "features"

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Output:
        device = next(iter(batch.values())).device
        with captured(self.model, self.capture) as features:
            output = self.task.forward(self.model.to(device), batch)
        return {**output, "features": features} if self.capture else output


def _teacher(experiment: Experiment, model: nn.Module) -> Frozen:
    return Frozen(copy.deepcopy(model).eval().requires_grad_(False), experiment.task)


@dataclass(frozen=True)
class _OnDevice:
    """Batches moved to a device as they are read; iterable again from the start."""

    batches: Iterable[Batch]
    device: torch.device
    data: Any

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            yield self.data.on_device({k: tensor.to(self.device) for k, tensor in batch.items()})


@dataclass
class _Run:
    """One stage in its place."""

    experiment: Experiment
    model: nn.Module
    method: Any
    journal: Journal
    index: int
    first: int
    watch: Watch
    held: Sequence[tuple[nn.Parameter, Tensor]]
    teachers: dict[str, Frozen]

    @property
    def actors(self) -> list[Any]:
        everyone = [self.experiment.builder, self.experiment.task, self.method]
        return [actor for actor in everyone if actor is not None]

    def stage(self, owner: str, stage: Stage, before: dict[str, float]) -> dict[str, Any]:
        experiment, model = self.experiment, self.model
        label = f"{owner}.{stage.name}"
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        for actor in self.actors:
            if hasattr(actor, "enter"):
                actor.enter(stage, model)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        placed(model, experiment.training.device())
        self.watch.begin(label, stage.steps)
        if stage.share:
            unchanged = stage.steps == 0
            trained = fit.Trained(0.0, {}) if unchanged else self._train(stage)
            seconds, figures = trained.seconds, trained.figures
        else:
            unchanged, seconds = self._apply(stage)
            figures = self._figures(stage)
        after = before if unchanged else experiment.evaluate(model, "validation")
        row = {
            "name": label,
            "seconds": round(seconds, 3),
            "steps": stage.steps,
            "trainable_parameters": trainable if stage.share else 0,
            "teacher_passes": stage.steps if stage.teacher else 0,
            "quality_before": before,
            "quality_after": after,
            "figures": figures,
        }
        self.journal.finish(self.index, row, model)
        step = self.first + stage.steps
        self.watch.log({f"validation/{name}": value for name, value in after.items()}, step)
        self.watch.end(row)
        return row

    def _figures(self, stage: Stage) -> dict[str, float]:
        """What the actors found out in a one-shot stage, logged."""
        found: dict[str, float] = {}
        for actor in self.actors:
            if hasattr(actor, "figures"):
                found |= actor.figures(stage, self.model)
        if found:
            self.watch.log({f"{stage.name}/{k}": v for k, v in found.items()}, self.first)
        return found

    def _train(self, stage: Stage) -> fit.Trained:
        experiment = self.experiment
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        train = crew.train if experiment.training.devices > 1 else fit.train
        return train(
            fit.Fit(
                model=self.model,
                task=experiment.task,
                actors=self.actors,
                data=experiment.data,
                stage=stage,
                training=experiment.training,
                first=self.first,
                seed=experiment.seed,
                checkpoint=self.journal.checkpoint(self.index),
                best=self.journal.best(self.index),
                teacher=self._teacher(stage) if stage.teacher else None,
                held={names[id(p)]: keep for p, keep in self.held if id(p) in names},
                log=self.watch.log,
                rewind=self.watch.rewind,
                validate=lambda model: experiment.evaluate(model, "validation"),
                better=experiment.better,
                advance=self.watch.advance,
            )
        )

    def _teacher(self, stage: Stage) -> Teacher:
        assert stage.teacher is not None
        paths = feature_paths(self.model, stage.capture)
        return replace(self.teachers[stage.teacher], capture=paths)

    def _apply(self, stage: Stage) -> tuple[bool, float]:
        """A one-shot stage, unit by unit. Returns whether the model's outputs are still bit by bit
        the same on a sample, and the seconds."""
        began = time.perf_counter()
        done = self.journal.restore_units(self.index, self.model)
        sample = None if done else self._outputs()
        seed_everything(self.experiment.seed, "stage", stage.name, self.index)
        pending: list[str] = []
        saved = time.perf_counter()
        modules = dict(self.model.named_modules())
        finished = list(done)
        for unit in self._units(stage, done):
            finished.append(unit)
            pending.append(unit)
            late = time.perf_counter() - saved > UNIT_SECONDS
            if (len(pending) == 1 and unit in modules) or late or interruption.requested:
                self.journal.save_units(self.index, len(finished), pending, self.model)
                pending, saved = [], time.perf_counter()
            interruption.check(f"after unit {unit} of stage {stage.name}")
        if not finished:
            raise StageError(f"one-shot stage {stage.name} did nothing: apply() yielded no unit")
        return sample is not None and self._same(sample, self._outputs()), (
            time.perf_counter() - began
        )

    def _units(self, stage: Stage, done: list[str]) -> Iterator[str]:
        experiment = self.experiment
        batches = _OnDevice(
            experiment.data.batches("train", seed=derive(experiment.seed, "calibration")),
            experiment.training.device(),
            experiment.data,
        )
        self.model.eval()
        for actor in self.actors:
            if hasattr(actor, "apply"):
                yield from actor.apply(stage, self.model, batches, frozenset(done))

    @torch.no_grad()
    def _outputs(self) -> dict[str, Any]:
        device = self.experiment.training.device()
        batch = {k: t.to(device) for k, t in self.experiment.data.sample(4).items()}
        return self.experiment.task.forward(self.model.eval(), batch)

    def _same(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        tensors = [name for name, value in old.items() if isinstance(value, Tensor)]
        return bool(tensors) and all(torch.equal(old[name], new[name]) for name in tensors)
