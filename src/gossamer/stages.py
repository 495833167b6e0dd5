"""Runs the stages of a run with Lightning, one after another, and resumes them where they
stopped."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gossamer import crew, fit
from gossamer.contract import Batch, Output, Stage, Teacher
from gossamer.errors import ConfigError, StageError
from gossamer.interruption import interruption
from gossamer.journal import Journal
from gossamer.seeds import derive, drawing, seed_everything

UNIT_SECONDS = (
    5.0  # units that are no module are saved at most this often, for each is a whole model
)


@dataclass(frozen=True)
class Training:
    """How stages are trained. Steps are optimizer steps; shares are of a stage's steps."""

    base_steps: int = 80  # make the dense base; see docs/records.md, "budget"
    steps: int = 80  # what a run adds
    lr: float = 5e-5  # of AdamW, unless a stage or a method has its own
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: float = 0.0  # share of a stage's steps
    clip: float | None = 1.0  # gradient norm
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1  # of trained stages, all machines together; a process for each
    strategy: Literal["ddp", "fsdp"] = "ddp"  # of several devices; see docs/parallel.md
    evaluate_every: int = 0  # steps; 0: at stage boundaries only
    validation_batches: int | None = None  # of one evaluation while training; None: the whole split
    checkpoint_every: int = 50  # steps
    log_every: int = 10  # steps
    threads: int | None = None  # of one process; None: torch's choice
    deterministic: bool = True
    progress: bool = True

    def device(self) -> torch.device:
        """Where one-shot stages and evaluations run: the accelerator's first device."""
        if self.accelerator == "cpu":
            return torch.device("cpu")
        if torch.cuda.is_available():
            return torch.device("cuda")
        if self.accelerator == "gpu":
            raise ConfigError(
                "trainer.accelerator=gpu: this machine has no CUDA device; "
                "use trainer.accelerator=auto or cpu"
            )
        return torch.device("cpu")


@dataclass
class Experiment:
    """What a run is made of: plain objects, built from a configuration or by hand."""

    builder: Any
    task: Any
    data: Any
    training: Training
    seed: int
    methods: dict[str, Any] = field(default_factory=dict)  # name -> method, in order
    nodes: dict[str, Any] = field(default_factory=dict)  # the configuration nodes it was built from
    tokenizer: Any = None

    def open(self) -> None:
        """Encode the data for the model. `data.load()` has been called."""
        if hasattr(self.builder, "tokenizer"):
            self.tokenizer = self.builder.tokenizer(self.data.texts())
            self.data.encode(self.tokenizer)

    def start(self) -> nn.Module:
        """The model with its starting weights: the same draw in every run with this seed."""
        with drawing(self.seed, "init"):
            model = self.builder.build(self.data.info)
        return self._prepared(model)

    def meta(self) -> nn.Module:
        """The dense model on the meta device: shapes without a number."""
        return self._prepared(self.unprepared())

    def unprepared(self) -> nn.Module:
        """What the builder alone makes, on the meta device; an export is told by its
        differences."""
        with torch.device("meta"):
            return self.builder.build(self.data.info, meta=True)

    def _prepared(self, model: nn.Module) -> nn.Module:
        for actor in (self.builder, self.task):
            if hasattr(actor, "prepare"):
                actor.prepare(model)
        return model

    def finalize(self, model: nn.Module) -> nn.Module:
        """The model's and the task's own last word, after every method has had its own."""
        for actor in (self.builder, self.task):
            if hasattr(actor, "finalize"):
                actor.finalize(model)
        return model.cpu().eval().requires_grad_(False)

    def better(self, new: float, old: float) -> bool:
        return new > old if self.task.primary(self.data.info)[1] == "max" else new < old

    def evaluate(
        self, model: nn.Module, split: str, rows: dict[str, Tensor] | None = None
    ) -> dict[str, float]:
        """The metrics of `model` on a split; `rows` is filled by tasks that score row by row."""
        device, data = self.training.device(), self.data
        if split == "validation" and self.training.validation_batches:
            data = _First(data, self.training.validation_batches)
        return self.task.evaluate(model.to(device), data, split, device=device, rows=rows)


@dataclass(frozen=True)
class _First:
    """A data set of which a pass ends after some batches, the same ones every time: drawn, for
    without a seed a pass may begin with its longest rows."""

    data: Any
    count: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def batches(self, split: str, *, seed: int | None = None) -> Iterator[Batch]:
        return islice(self.data.batches(split, seed=seed or 0), self.count)


@dataclass
class Watch:
    """Who is told what happens: the metrics file and loggers, and the terminal."""

    log: Callable[[dict[str, float], int], None] = lambda metrics, step: None
    rewind: Callable[[int], None] = lambda step: None
    begin: Callable[[str, int], None] = lambda name, steps: None  # steps 0: one-shot
    advance: Callable[[int, float], None] = lambda step, loss: None
    end: Callable[[dict[str, Any]], None] = lambda row: None


def training_plan(builder: Any, task: Any) -> list[Stage]:
    """How the model and the task train when no method has stages of its own."""
    plan = [Stage("train")]
    for actor in (builder, task):
        if hasattr(actor, "stages"):
            plan = actor.stages(plan)
    return plan


def allot(stages: Sequence[Stage], steps: int, seed: int) -> list[Stage]:
    """Give the trained stages their whole number of steps by share (largest remainder), and every
    stage the seed of its draws. Shares of the trained stages must add to 1."""
    total = sum(stage.share for stage in stages)
    if total and abs(total - 1) > 1e-6:
        raise ConfigError(f"the shares of stages {[s.name for s in stages]} add to {total}, not 1")
    exact = [stage.share * steps for stage in stages]
    whole = [int(value) for value in exact]
    missing = round(sum(exact)) - sum(whole)
    for index in sorted(range(len(stages)), key=lambda i: whole[i] - exact[i])[:missing]:
        whole[index] += 1
    return [replace(s, steps=n, seed=seed) for s, n in zip(stages, whole, strict=True)]


def plan_stages(experiment: Experiment, steps: int) -> dict[str, list[Stage]]:
    """The stages of every method in order. Methods that train share the steps equally."""
    training = training_plan(experiment.builder, experiment.task)
    plans = {name: method.stages(training) for name, method in experiment.methods.items()}
    trained = [name for name, plan in plans.items() if any(stage.share for stage in plan)]
    parts = {
        name: steps // len(trained) + (position < steps % len(trained))
        for position, name in enumerate(trained)
    }
    return {name: allot(plan, parts.get(name, 0), experiment.seed) for name, plan in plans.items()}


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
        held = [(_weight(model, path), keep) for path, keep in zeros.items()]
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
        if method is not None:
            method.finalize(model)
            zeros |= _zeros(method, model)
    return rows


def _weight(model: nn.Module, path: str) -> nn.Parameter:
    return model.get_parameter(f"{path}.weight")


def _zeros(method: Any, model: nn.Module) -> dict[str, Tensor]:
    """The zeros that a sparse method left, as in `model.held`."""
    if "sparse weights" not in method.produces:
        return {}
    sparse = [fact.name for fact in method.ledger(model) if fact.density < 1 and not fact.skipped]
    return {name: _weight(model, name).detach() != 0 for name in sparse}


@dataclass(frozen=True)
class Frozen:
    """A teacher: a model as it was, in eval mode. An object, for it travels to other ranks."""

    model: nn.Module
    task: Any

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Output:
        device = next(iter(batch.values())).device
        return self.task.forward(self.model.to(device), batch)


def _teacher(experiment: Experiment, model: nn.Module) -> Teacher:
    return Frozen(copy.deepcopy(model).eval().requires_grad_(False), experiment.task)


@dataclass(frozen=True)
class _OnDevice:
    """Batches moved to a device as they are read; iterable again from the start."""

    batches: Iterable[Batch]
    device: torch.device

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            yield {name: tensor.to(self.device) for name, tensor in batch.items()}


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
    teachers: dict[str, Teacher]

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
        model.to(experiment.training.device())
        self.watch.begin(label, stage.steps)
        if stage.share:
            unchanged = stage.steps == 0
            seconds = self._train(stage) if stage.steps else 0.0
        else:
            unchanged, seconds = self._apply(stage)
        after = before if unchanged else experiment.evaluate(model, "validation")
        row = {
            "name": label,
            "seconds": round(seconds, 3),
            "steps": stage.steps,
            "trainable_parameters": trainable if stage.share else 0,
            "teacher_passes": stage.steps if stage.teacher else 0,
            "quality_before": before,
            "quality_after": after,
        }
        self.journal.finish(self.index, row, model)
        step = self.first + stage.steps
        self.watch.log({f"validation/{name}": value for name, value in after.items()}, step)
        self.watch.end(row)
        return row

    def _train(self, stage: Stage) -> float:
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
                teacher=self.teachers[stage.teacher] if stage.teacher else None,
                held={names[id(p)]: keep for p, keep in self.held if id(p) in names},
                log=self.watch.log,
                rewind=self.watch.rewind,
                validate=lambda model: experiment.evaluate(model, "validation"),
                better=experiment.better,
                advance=self.watch.advance,
            )
        )

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
        )
        self.model.eval()
        for actor in self.actors:
            if hasattr(actor, "apply"):
                yield from actor.apply(stage, self.model, batches, frozenset(done))

    @torch.no_grad()
    def _outputs(self) -> dict[str, Any]:
        device = self.experiment.training.device()
        (batch,) = _OnDevice([self.experiment.data.sample(4)], device)
        return self.experiment.task.forward(self.model.eval(), batch)

    def _same(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        tensors = [name for name, value in old.items() if isinstance(value, Tensor)]
        return bool(tensors) and all(torch.equal(old[name], new[name]) for name in tensors)
