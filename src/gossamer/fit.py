"""One trained stage: a LightningModule and its `Trainer.fit`, exact under interruption.

Lightning saves neither the random generators nor the position in the data, so the checkpoint is our
own: weights, optimizer, generators and the step. The data order is a function of the step alone.

On several devices every rank goes through this file at the same time, and the driver (rank 0) alone
evaluates, writes and logs. A file that the driver wrote is read by all of them.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from gossamer.contract import ANSWERS, Batch, Output, Stage, Teacher
from gossamer.errors import StageError
from gossamer.interruption import interruption
from gossamer.journal import load_tensors, save_tensors
from gossamer.models.capture import captured
from gossamer.models.parts import feature_paths
from gossamer.ranks import ALONE, Ranks, differing, load_optimizer, sharded, trainer
from gossamer.seeds import generator_states, seed_everything, set_generator_states
from gossamer.sparsity.masks import hold, laid_out, local
from gossamer.stages import schedule_factor


@dataclass
class Fit:
    """What one trained stage needs. `first` is the stage's first step on the run's step axis."""

    model: nn.Module
    task: Any
    actors: Sequence[Any]  # builder, task, method: whoever may have verbs
    data: Any
    stage: Stage
    training: Any  # stages.Training
    first: int
    seed: int
    checkpoint: Path
    best: Path
    teacher: Teacher | None = None
    held: Mapping[str, Tensor] = field(default_factory=dict)  # parameter -> which entries stay
    log: Callable[[dict[str, float], int], None] = lambda metrics, step: None
    rewind: Callable[[int], None] = lambda step: None  # forget metrics logged after this step
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    better: Callable[[float, float], bool] = lambda new, old: new > old
    advance: Callable[[int, float], None] = lambda step, loss: None
    ranks: Ranks = ALONE

    @property
    def sharded(self) -> bool:
        """Has every rank a part of each parameter only?"""
        return self.ranks.size > 1 and self.training.strategy == "fsdp"


class StageModule(pl.LightningModule):
    """Lightning's view of one stage. The teacher and the actors stay outside its state."""

    def __init__(self, fit: Fit, model: nn.Module, features: dict[str, Any], began: float) -> None:
        super().__init__()
        self.began = began  # perf_counter seconds, moved back by what an earlier process spent
        self.model = model  # the stage's own, or a copy of it that is sharded
        self.fit = fit
        self.features = features
        self.step = 0  # finished steps of this stage
        self.best_value: float | None = None
        self.average: dict[str, Tensor] = {}
        self.figures: dict[str, float] = {}  # the actors' latest
        self.generators: dict[str, Any] | None = None  # to restore before the first step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        fit, training = self.fit, self.fit.training
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        own = [actor for actor in fit.actors if hasattr(actor, "optimizer")]
        if own:
            optimizer = own[-1].optimizer(named, fit.stage)
        else:
            optimizer = torch.optim.AdamW(
                [p for _, p in named], lr=fit.stage.lr, weight_decay=training.weight_decay
            )
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        return optimizer

    def on_fit_start(self) -> None:
        if self.fit.stage.ema is not None:
            self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        if self.fit.checkpoint.exists():
            self._resume(load_tensors(self.fit.checkpoint))
        parameters = dict(self.model.named_parameters())
        self.held = [
            (parameters[name], keep.to(self.device)) for name, keep in self.fit.held.items()
        ]

    def on_train_start(self) -> None:
        self.model.train()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return self.fit.data.on_device(batch)

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        fit = self.fit
        if index == 0:  # not earlier: making the loader's iterator draws a number
            if self.generators:
                set_generator_states(self.generators)
            else:  # each rank has rows of its own, and so draws (dropout) of its own
                own = ("rank", fit.ranks.rank) if fit.ranks.rank else ()
                seed_everything(fit.seed, "stage", fit.stage.name, fit.first, *own)
        stage = fit.stage
        assert stage.schedule is not None
        factor = schedule_factor(stage.schedule, self.step, stage.steps, fit.training.warmup)
        for group in self.optimizers(use_pl_optimizer=False).param_groups:
            group["lr"] = group["peak_lr"] * factor

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The last part's loss, for Lightning to go backward from; earlier parts have been."""
        rows = len(next(iter(batch.values())))
        parts = min(self.fit.training.accumulate, rows)
        if parts > 1:  # Lightning would do so between here and its own way back
            self.optimizers(use_pl_optimizer=False).zero_grad()
        total: Tensor | None = None
        for part in range(parts):
            first, end = part * rows // parts, (part + 1) * rows // parts
            piece = {name: value[first:end] for name, value in batch.items()}
            values = self._losses(piece) * ((end - first) / rows)
            total = values.detach() if total is None else total + values.detach()
            if part < parts - 1:
                with torch.autocast(values.device.type, enabled=False):
                    self.trainer.strategy.backward(values[0], None)
        assert total is not None
        self.values = total
        if total.device.type == "cpu":  # elsewhere looking at the value would wait for the device
            self._finite_losses()
        return values[0]

    def optimizer_zero_grad(self, epoch: int, index: int, optimizer: torch.optim.Optimizer) -> None:
        if self.fit.training.accumulate == 1:
            optimizer.zero_grad()

    def _losses(self, batch: Batch) -> Tensor:
        """(1 + terms,) The loss of some rows, and the terms that it is the sum of."""
        fit = self.fit
        output: Output = fit.task.forward(self.model, batch)
        if fit.stage.capture:
            output = {**output, "features": dict(self.features)}
        terms: dict[str, Tensor] = {}
        if not fit.stage.labels:
            batch = {name: value for name, value in batch.items() if name not in ANSWERS}
        for actor in fit.actors:
            if hasattr(actor, "losses") and (fit.stage.labels or actor is not fit.task):
                terms.update(actor.losses(self.model, fit.task, batch, output, fit.teacher))
        if parts := sharded(terms):  # FSDP would add another gradient to what such a term gives
            raise StageError(
                f"stage {fit.stage.name}: the loss {parts[0]} reads parameters that are sharded; "
                "use trainer=ddp"
            )
        values = [term.float() for term in terms.values()]
        loss = torch.stack(values).sum()
        self.names = ["loss", *terms]
        return torch.stack([loss, *values])

    def _finite_losses(self) -> dict[str, float]:
        """The loss and its terms, of the global batch. Raises StageError if the loss is not
        finite, on all ranks at once."""
        means = self.fit.ranks.mean(self.values).tolist()
        losses = dict(zip(self.names, means, strict=True))
        value = losses["loss"]
        if not math.isfinite(value):
            terms = ", ".join(f"{name} {term:.3g}" for name, term in [*losses.items()][1:])
            self._stop(f"the loss is {value} at step {self.step + 1}", f" (terms: {terms})")
        return losses

    def _refuse_broken(self) -> None:
        """Nothing is saved in the place of something good: a finite loss can still have a step
        that makes the weights inf or nan."""
        self._finite_losses()
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        broken = [not bool(torch.isfinite(local(p)).all()) for _, p in trained]
        for (name, _), somewhere in zip(trained, self.fit.ranks.any(broken), strict=True):
            if somewhere:
                self._stop(f"{name} is not finite after step {self.step}")

    def _stop(self, what: str, more: str = "") -> None:
        checkpoint = self.fit.checkpoint
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "none saved"
        raise StageError(
            f"stage {self.fit.stage.name}: {what} of {self.fit.stage.steps}{more}; {kept}. "
            "Lower trainer.lr or trainer.clip"
        )

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        fit, training = self.fit, self.fit.training
        self.step += 1
        optimizer = self.optimizers(use_pl_optimizer=False)
        with torch.no_grad():
            for parameter, keep in self.held:
                hold(parameter, keep)
            for actor in fit.actors:
                if hasattr(actor, "after_step"):
                    actor.after_step(self.step, self.model, optimizer)
            live = self.model.state_dict() if self.average else {}
            for name, value in self.average.items():
                if value.is_floating_point():
                    value.lerp_(live[name], 1 - (fit.stage.ema or 0.0))
                else:
                    value.copy_(live[name])
        last = self.step == fit.stage.steps
        due = training.log_every and self.step % training.log_every == 0
        if due or last:
            self._log(self._finite_losses(), optimizer)
        if training.evaluate_every and self.step % training.evaluate_every == 0:
            self._validate()
        (asked,) = fit.ranks.any([bool(interruption.requested)])
        if asked:
            interruption.requested = interruption.requested or "a signal to another rank"
            self._save(optimizer)
            interruption.check(f"after step {self.step} of stage {fit.stage.name}")
        if last:
            self._refuse_broken()
        elif training.checkpoint_every and self.step % training.checkpoint_every == 0:
            self._save(optimizer)

    def _log(self, losses: dict[str, float], optimizer: torch.optim.Optimizer) -> None:
        metrics = {"train/loss": losses["loss"], "train/lr": optimizer.param_groups[0]["lr"]}
        if len(losses) > 2:
            metrics |= {f"train/{name}": term for name, term in losses.items() if name != "loss"}
        for actor in self.fit.actors:
            if hasattr(actor, "monitors"):
                self.figures |= actor.monitors(self.model, optimizer)
        metrics |= {f"train/{name}": value for name, value in self.figures.items()}
        self.fit.log(metrics, self.fit.first + self.step)
        self.fit.advance(self.step, losses["loss"])

    def _validate(self) -> None:
        fit = self.fit
        if fit.validate is None:
            return
        self.give_back(self.model.state_dict())
        if not fit.ranks.driver:
            return  # and wait for the driver where the ranks meet next
        quality = fit.validate(fit.model)
        self.model.train()
        fit.log({f"validation/{k}": v for k, v in quality.items()}, fit.first + self.step)
        if fit.stage.monitor:
            value = quality[fit.stage.monitor]
            if self.best_value is None or fit.better(value, self.best_value):
                self.best_value = value
                save_tensors(fit.best, {"model": fit.model.state_dict()})

    def give_back(self, state: dict[str, Tensor]) -> None:
        """Put `state`, the model's own or the average, into the model that the stage was given. If
        a copy of it was sharded, that is whole on the driver only."""
        fit = self.fit
        if fit.sharded:
            whole = fit.ranks.whole(state)
            if fit.ranks.driver:
                fit.model.load_state_dict(whole)
        elif state is self.average:
            fit.model.load_state_dict(state)

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        """Write the checkpoint of all ranks."""
        self._refuse_broken()
        ranks = self.fit.ranks
        content = {
            "step": self.step,
            "model": ranks.whole(self.model.state_dict()),
            "average": ranks.whole(self.average),
            "optimizer": ranks.whole(optimizer.state_dict()),
            "precision": self.trainer.precision_plugin.state_dict(),
            "best": self.best_value,
            "figures": self.figures,
            "seconds": time.perf_counter() - self.began,
            "generators": ranks.gather(generator_states()),
        }
        if ranks.driver:
            save_tensors(self.fit.checkpoint, content)

    def _resume(self, saved: dict[str, Any]) -> None:
        live = self.model.state_dict()
        self.model.load_state_dict(
            {name: laid_out(value, live[name]) for name, value in saved["model"].items()}
        )
        self.step = saved["step"]
        self.average = {
            name: laid_out(value.to(self.device), live[name])
            for name, value in saved["average"].items()
        }
        self.best_value = saved["best"]
        self.figures = saved["figures"]
        load_optimizer(self.optimizers(use_pl_optimizer=False), saved["optimizer"])
        self.trainer.precision_plugin.load_state_dict(saved["precision"])
        self.generators = saved["generators"][self.fit.ranks.rank]


@contextmanager
def _together(actors: Sequence[Any], ranks: Ranks) -> Iterator[None]:
    """The methods' `mean_of_ranks` is these ranks' while the block lasts."""
    methods = [actor for actor in actors if hasattr(actor, "mean_of_ranks")]
    for method in methods:
        method.mean_of_ranks = ranks.mean
    try:
        yield
    finally:
        for method in methods:
            del method.mean_of_ranks


@dataclass(frozen=True)
class Trained:
    """What a trained stage leaves beside its weights."""

    seconds: float  # before an interruption included
    figures: dict[str, float]  # of the last step, by the actors' `monitors`


def train(fit: Fit) -> Trained:
    """Train one stage to its last step; goes on from its checkpoint if there is one.

    Raises StageError for a loss that is not finite or ranks that have drifted apart, Preempted
    after saving when asked to stop."""
    stage = fit.stage
    if not any(parameter.requires_grad for parameter in fit.model.parameters()):
        raise StageError(f"stage {stage.name}: no parameter requires a gradient")
    saved = load_tensors(fit.checkpoint) if fit.checkpoint.exists() else None
    done = saved["step"] if saved else 0
    earlier = saved["seconds"] if saved else 0.0
    began = time.perf_counter() - earlier
    figures: dict[str, float] = saved["figures"] if saved else {}
    fit.rewind(fit.first + done)
    if saved and done == stage.steps:
        fit.model.load_state_dict(saved["average"] or saved["model"])
    else:
        # the driver's stays whole, for what it does alone
        model = copy.deepcopy(fit.model) if fit.sharded and fit.ranks.driver else fit.model
        paths = feature_paths(model, stage.capture)
        with captured(model, paths) as features, _together(fit.actors, fit.ranks):
            module = StageModule(fit, model, features, began)
            share = {"shard": (fit.ranks.rank, fit.ranks.size)} if fit.ranks.size > 1 else {}
            left = stage.steps - done
            batches = fit.data.train_batches(fit.seed, fit.first + done, left, **share)
            trainer(fit.training, fit.ranks, left).fit(module, batches)
        if module.step != stage.steps:
            raise StageError(
                f"stage {stage.name}: ended after {module.step} of {stage.steps} steps"
            )
        if apart := differing(fit.ranks, model):
            raise StageError(
                f"stage {stage.name}: {apart[0]} differs between the ranks, for it depends on what "
                "one of them saw or drew; train in one process: trainer=default"
            )
        module.give_back(module.average or model.state_dict())
        figures = module.figures
    if stage.monitor and fit.ranks.driver and fit.best.exists():
        fit.model.load_state_dict(load_tensors(fit.best)["model"])
    return Trained(time.perf_counter() - began, figures)
