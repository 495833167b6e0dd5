"""What a run is made of, and the stages that it goes through."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gossamer.contract import Batch, Stage
from gossamer.errors import ConfigError
from gossamer.export.bundle import Bundle
from gossamer.seeds import drawing
from gossamer.tasks.zero_shot import ZeroShot


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
    accumulate: int = 1  # parts that a device computes its rows of a batch in, one after another
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


def schedule_factor(kind: str, step: int, steps: int, warmup: float) -> float:
    """The learning rate of step `step` (from 0) of `steps`, as a share of the peak."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    left = (steps - step) / max(1, steps - rising)
    if kind == "linear":
        return left
    if kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (1 - left)))
    if kind == "constant":
        return 1.0
    raise ConfigError(f"schedule={kind}: unknown; accepted: constant, linear, cosine")


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
    zero_shot: ZeroShot | None = None  # what finished language models are asked besides
    exporter: Bundle = field(default_factory=Bundle)  # how the result leaves the run

    def open(self) -> None:
        """Encode the data for the model. `data.load()` has been called."""
        if hasattr(self.builder, "tokenizer"):
            self.tokenizer = self.builder.tokenizer(self.data.texts())
            self.data.encode(self.tokenizer)
        if self.zero_shot is not None:
            self.zero_shot.rehearse(self.meta(), self.tokenizer)

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
        return self.task.evaluate(placed(model, device), data, split, device=device, rows=rows)


def placed(model: nn.Module, device: torch.device | str) -> nn.Module:
    """`model` on `device`; one that its builder streams stays where it is, block by block."""
    return model if getattr(model, "stream", False) else model.to(device)


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


def allot(stages: Sequence[Stage], steps: int, training: Training, seed: int) -> list[Stage]:
    """Give the trained stages their whole number of steps by share (largest remainder), and every
    stage the seed of its draws and, unless it has its own, the trainer's learning rate and
    schedule. Shares of the trained stages must add to 1."""
    total = sum(stage.share for stage in stages)
    if total and abs(total - 1) > 1e-6:
        raise ConfigError(f"the shares of stages {[s.name for s in stages]} add to {total}, not 1")
    exact = [stage.share * steps for stage in stages]
    whole = [int(value) for value in exact]
    missing = round(sum(exact)) - sum(whole)
    for index in sorted(range(len(stages)), key=lambda i: whole[i] - exact[i])[:missing]:
        whole[index] += 1
    return [
        replace(
            stage,
            steps=count,
            seed=seed,
            lr=training.lr if stage.lr is None else stage.lr,
            schedule=stage.schedule or training.schedule,
        )
        for stage, count in zip(stages, whole, strict=True)
    ]


def plan_stages(experiment: Experiment, steps: int) -> dict[str, list[Stage]]:
    """The stages of every method in order. Methods that train share the steps equally."""
    training = training_plan(experiment.builder, experiment.task)
    plans = {name: method.stages(training) for name, method in experiment.methods.items()}
    trained = [name for name, plan in plans.items() if any(stage.share for stage in plan)]
    parts = {
        name: steps // len(trained) + (position < steps % len(trained))
        for position, name in enumerate(trained)
    }
    return {
        name: allot(plan, parts.get(name, 0), experiment.training, experiment.seed)
        for name, plan in plans.items()
    }
