"""What the engine and the published methods agree on: Stage, Fact, Check, and the verbs.

Every verb is optional. The engine calls the model's builder, then the task, then the methods, in
this order, and treats them alike: a published system that is an architecture, a score or an
objective is a model or a task with verbs of its own. The engine never asks for a method's name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # `gossamer list` and the first pass of `plan` must not import torch
    import torch
    from torch import Tensor, nn

Start = Literal["init", "pretrained", "trained"]
Batch = Mapping[str, "Tensor"]
# what a batch holds that the model is to say: classes (B,), and targets (B, classes) if mixed
ANSWERS = ("labels", "targets")
Output = Mapping[str, Any]  # what task.forward returns: "logits" …, and "features" if captured
Teacher = Callable[[Batch], Output]


@dataclass(frozen=True)
class Stage:
    """One step of a method: trained by one `Trainer.fit` (share > 0), or one-shot (share = 0)."""

    name: str
    share: float = 1.0  # of the method's training steps; 0: one-shot, done by `apply`
    lr: float | None = None  # None: the trainer's
    schedule: str | None = None  # constant | linear | cosine; None: the trainer's
    ema: float | None = None  # decay of the averaged copy that leaves the stage
    # "start" (the run's starting weights), "before" (what this method was given), or the name of an
    # earlier stage, for what left it
    teacher: str | None = None
    # what the losses see in output["features"], {module path: its output}, the teacher's too: of
    # these modules, of the last so many places where the model's features are compared, of all
    # modules of one name, or "tokens": where the tokens leave the blocks
    capture: int | str | tuple[str, ...] = ()
    labels: bool = True  # False: no loss sees a label, and the task's own loss is not asked for
    monitor: str | None = None  # validation metric: the best checkpoint leaves, not the last
    # filled in by the engine before any verb but `stages` sees it; so are lr and schedule
    steps: int = 0
    seed: int = 0

    def generator(self, *purpose: str | int, device: str = "cpu") -> torch.Generator:
        """The generator for one named draw of this stage, e.g. stage.generator("support", name)."""
        from gossamer.seeds import generator

        return generator(self.seed, self.name, *purpose, device=device)


@dataclass(frozen=True)
class Fact:
    """One row of a ledger: what one operation of the finished model is."""

    name: str
    shape: tuple[int, ...]
    pattern: str = "dense"  # dense | unstructured | 2:4 | heads | neurons | int4 …
    target: float | None = None  # the density that was declared (of 1.0), None: none was
    density: float = 1.0  # non-zero share of what is left
    bits: float = 32.0  # stored bits per weight, zeros, scales and indices included
    operands: tuple[int, int] | None = None  # bits of weights and inputs if both are integers
    macs: int = 0  # with a non-zero weight, in one application to one vector (theoretical)
    state_bytes: int = 0  # caches, index maps
    # of an attention's products, what chooses their keys included: `macs` is per sample, these are
    # those of the dense products, and `density` and `block_density` are of the map (heads, n, n)
    dense_macs: int | None = None
    block_density: float | None = None  # share of its 128 x 128 tiles that are not empty
    changed: bool = True  # did a method change this operation?
    skipped: str | None = None  # why not, if it was left alone


@dataclass(frozen=True)
class Picture:
    """What a method shows of a finished model, e.g. which patches a query attends to."""

    name: str  # of the file, without its ending
    caption: str  # what is seen, in one line
    pixels: Tensor  # uint8 (height, width, 3)


@dataclass(frozen=True)
class Check:
    """One thing that must be true of the exported files."""

    name: str
    passed: bool
    figure: str = ""  # what was seen, with its unit


class Method(Protocol):
    """The verbs. Inherit to get a default for each one that you do not need.

    `model` is the nn.Module that the builder returned; its parts are named by role in
    `model.parts`. State lives in the buffers and parameters of the modules that a method changed,
    never in `self`: the engine rebuilds `self` from the configuration when it resumes.
    """

    start: Start = "trained"
    consumes: frozenset[str] = frozenset()  # properties an earlier method must have produced
    produces: frozenset[str] = frozenset()  # e.g. {"sparse weights"}
    keeps: frozenset[str] = frozenset()  # what earlier methods produced and this one preserves

    @staticmethod
    def mean_of_ranks(values: Tensor) -> Tensor:
        """The mean over all processes that train a stage, which all ask for it or none; for what
        `losses` saw of their rows to enter a buffer. While it trains, the engine puts its own
        here."""
        return values

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        """Problems, one line each. The model is on the meta device; nothing was prepared yet."""
        return []

    def parallel_requirements(self, strategy: Literal["ddp", "fsdp"]) -> list[str]:
        """Why this cannot be trained on several devices, one line each. Asked of builder, task and
        method. With "ddp" every rank has the whole model and the same gradients; with "fsdp" the
        parameters that `losses` and `after_step` see are DTensors, of which a rank has some rows.
        What a rank draws or computes from its own rows must not enter parameters or buffers."""
        return []

    def stages(self, training: list[Stage]) -> list[Stage]:
        """The stages in order; shares of the trained ones add to 1. `training` is how the model and
        the task train (one stage unless they say otherwise): a method that trains whatever they
        train keeps it, adds one-shot stages around it, or ignores it."""
        return training

    def prepare(self, model: nn.Module) -> None:
        """Surgery of shapes. Draws no number, so that `plan` (on meta) and resume can repeat it."""

    def apply(
        self, stage: Stage, model: nn.Module, batches: Iterable[Batch], done: Collection[str]
    ) -> Iterator[str]:
        """A one-shot stage's work: yields the name of each unit (a matrix, a block, a step) right
        after it is finished, and skips the work of the units in `done`, which an interrupted run
        had finished. A unit named like a module changes that module only; any other name may have
        changed the whole model. `batches` is one seeded pass over the training split, from the
        start each time it is iterated."""
        return iter(())

    def enter(self, stage: Stage, model: nn.Module) -> None:
        """Switches only: what trains (`requires_grad`), which path is active. Repeated on
        resume."""

    # Declared by methods that have one; absent means the trainer's AdamW on what requires grad:
    #   optimizer(named_parameters: list[tuple[str, nn.Parameter]], stage: Stage) ->
    # torch.optim.Optimizer
    # The engine sets each group's "lr" to its first value times the schedule's factor.

    def losses(
        self, model: nn.Module, task: Any, batch: Batch, output: Output, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        """Terms whose sum is the loss. The task's own is named "task": unmentioned it is kept; a
        term returned under that name scales or replaces it."""
        return {}

    def after_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """After the optimizer's step `step` (from 1, within the stage); gradients are still
        there."""

    def monitors(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Figures of this step to log beside the losses, e.g. how many masks changed. Asked on all
        ranks, when the engine logs; those of a stage's last step stay in the record."""
        return {}

    def figures(self, stage: Stage, model: nn.Module) -> dict[str, float]:
        """What a one-shot stage found out, to log and to keep in the record when it is done."""
        return {}

    def finalize(self, model: nn.Module) -> None:
        """Inference-only modules, in place. May change shapes, never the function."""

    def verify(self, loaded: nn.Module, reference: nn.Module) -> list[Check]:
        """What must be true of `loaded`, read back from the exported files. `reference` is the
        model that was exported."""
        return []

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        """What each operation that this method was responsible for has become."""
        return []

    def pictures(self, loaded: nn.Module, batch: Batch) -> list[Picture]:
        """What people would rather look at than read, of the exported model, for a few rows of
        the test split, ready for the model; kept beside the record and shown in the report. Asked
        once, of a model in eval mode, without gradients. Of images, `batch` has besides what the
        model takes "pixels" (B, height, width, 3) uint8: the same rows as people see them."""
        return []
