"""One trained stage: a LightningModule and its `Trainer.fit`, exact under interruption.

Lightning saves neither the random generators nor the position in the data, so the checkpoint is our
own: weights, optimizer, generators and the step. The data order is a function of the step alone.
"""

import math
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from gossamer.contract import Batch, Output, Stage, Teacher
from gossamer.errors import ConfigError, Preempted, StageError
from gossamer.journal import load_tensors, save_tensors
from gossamer.seeds import seed_everything


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
    held: Sequence[tuple[nn.Parameter, Tensor]] = ()  # parameters, and which entries must stay
    log: Callable[[dict[str, float], int], None] = lambda metrics, step: None
    rewind: Callable[[int], None] = lambda step: None  # forget metrics logged after this step
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    better: Callable[[float, float], bool] = lambda new, old: new > old
    advance: Callable[[int, float], None] = lambda step, loss: None


class Interruption:
    """Turns SIGTERM, SIGINT and the cluster's SIGUSR signals into a request to stop after the
    step."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.requested: str | None = None

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.getsignal(number) for number in self.SIGNALS}
        for number in self.SIGNALS:
            signal.signal(number, self._request)
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:  # the second Ctrl-C means now
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, where: str) -> None:
        if self.requested:
            raise Preempted(f"stopped by {self.requested} {where}; the state is saved")


interruption = Interruption()


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


def generator_states() -> dict[str, Any]:
    """The state of every global generator, as tensors and plain values."""
    version, words, gauss = random.getstate()
    name, keys, *rest = numpy.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(numpy.asarray(keys).astype("int64")), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_generator_states(states: dict[str, Any]) -> None:
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states["numpy"]
    numpy.random.set_state((name, keys.numpy().astype("uint32"), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def captured(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The latest output of each named module, by name, while the block lasts."""
    features: dict[str, Any] = {}

    def keep(name: str):
        return lambda module, args, output: features.__setitem__(name, output)

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield features
    finally:
        for hook in hooks:
            hook.remove()


class StageModule(pl.LightningModule):
    """Lightning's view of one stage. The teacher and the actors stay outside its state."""

    def __init__(self, fit: Fit, features: dict[str, Any], began: float) -> None:
        super().__init__()
        self.began = began  # perf_counter seconds, moved back by what an earlier process spent
        self.model = fit.model
        self.fit = fit
        self.features = features
        self.step = 0  # finished steps of this stage
        self.best_value: float | None = None
        self.average: dict[str, Tensor] = {}
        self.generators: dict[str, Any] | None = None  # to restore before the first step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        fit, training = self.fit, self.fit.training
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if not named:
            raise StageError(f"stage {fit.stage.name}: no parameter requires a gradient")
        own = [actor for actor in fit.actors if hasattr(actor, "optimizer")]
        if own:
            optimizer = own[-1].optimizer(named, fit.stage)
        else:
            lr = training.lr if fit.stage.lr is None else fit.stage.lr
            optimizer = torch.optim.AdamW(
                [p for _, p in named], lr=lr, weight_decay=training.weight_decay
            )
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        return optimizer

    def on_fit_start(self) -> None:
        if self.fit.stage.ema is not None:
            self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        if self.fit.checkpoint.exists():
            self._resume(load_tensors(self.fit.checkpoint))

    def on_train_start(self) -> None:
        self.model.train()

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        fit = self.fit
        if index == 0:  # not earlier: making the loader's iterator draws a number
            if self.generators:
                set_generator_states(self.generators)
            else:
                seed_everything(fit.seed, "stage", fit.stage.name, fit.first)
        kind = fit.stage.schedule or fit.training.schedule
        factor = schedule_factor(kind, self.step, fit.stage.steps, fit.training.warmup)
        for group in self.optimizers(use_pl_optimizer=False).param_groups:
            group["lr"] = group["peak_lr"] * factor

    def training_step(self, batch: Batch, index: int) -> Tensor:
        fit = self.fit
        output: Output = fit.task.forward(self.model, batch)
        if fit.stage.capture:
            output = {**output, "features": dict(self.features)}
        terms: dict[str, Tensor] = {}
        for actor in fit.actors:
            if hasattr(actor, "losses"):
                terms.update(actor.losses(self.model, fit.task, batch, output, fit.teacher))
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.terms = terms
        self.last_loss = loss.detach()
        if loss.device.type == "cpu":  # elsewhere looking at the value would wait for the device
            self._refuse_non_finite()
        return loss

    def _refuse_non_finite(self) -> float:
        value = float(self.last_loss)
        if not math.isfinite(value):
            terms = ", ".join(f"{name} {float(t.detach()):.3g}" for name, t in self.terms.items())
            self._stop(f"the loss is {value} at step {self.step + 1}", f" (terms: {terms})")
        return value

    def _refuse_broken(self) -> None:
        """Nothing is saved in the place of something good: a finite loss can still have a step
        that makes the weights inf or nan."""
        self._refuse_non_finite()
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        broken = [name for name, p in trained if not bool(torch.isfinite(p).all())]
        if broken:
            self._stop(f"{broken[0]} is not finite after step {self.step}")

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
            for parameter, keep in fit.held:
                parameter.mul_(keep)
            for actor in fit.actors:
                if hasattr(actor, "after_step"):
                    actor.after_step(self.step, self.model, optimizer)
            for name, value in self.average.items():
                live = self.model.state_dict()[name]
                if value.is_floating_point():
                    value.lerp_(live, 1 - (fit.stage.ema or 0.0))
                else:
                    value.copy_(live)
        last = self.step == fit.stage.steps
        due = training.log_every and self.step % training.log_every == 0
        if due or last:
            self._log(self._refuse_non_finite(), optimizer)
        if training.evaluate_every and self.step % training.evaluate_every == 0:
            self._validate()
        if interruption.requested:
            self._save(optimizer)
            interruption.check(f"after step {self.step} of stage {fit.stage.name}")
        if last:
            self._refuse_broken()
        elif training.checkpoint_every and self.step % training.checkpoint_every == 0:
            self._save(optimizer)

    def _log(self, loss: float, optimizer: torch.optim.Optimizer) -> None:
        metrics = {"train/loss": loss, "train/lr": optimizer.param_groups[0]["lr"]}
        if len(self.terms) > 1:
            metrics |= {f"train/{name}": float(term.detach()) for name, term in self.terms.items()}
        self.fit.log(metrics, self.fit.first + self.step)
        self.fit.advance(self.step, loss)

    def _validate(self) -> None:
        fit = self.fit
        if fit.validate is None:
            return
        quality = fit.validate(self.model)
        self.model.train()
        fit.log({f"validation/{k}": v for k, v in quality.items()}, fit.first + self.step)
        if fit.stage.monitor:
            value = quality[fit.stage.monitor]
            if self.best_value is None or fit.better(value, self.best_value):
                self.best_value = value
                save_tensors(fit.best, {"model": self.model.state_dict()})

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        self._refuse_broken()
        save_tensors(
            self.fit.checkpoint,
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "average": self.average,
                "optimizer": optimizer.state_dict(),
                "precision": self.trainer.precision_plugin.state_dict(),
                "best": self.best_value,
                "seconds": time.perf_counter() - self.began,
                "generators": generator_states(),
            },
        )

    def _resume(self, saved: dict[str, Any]) -> None:
        self.step = saved["step"]
        self.model.load_state_dict(saved["model"])
        self.average = {name: value.to(self.device) for name, value in saved["average"].items()}
        self.best_value = saved["best"]
        self.optimizers(use_pl_optimizer=False).load_state_dict(saved["optimizer"])
        self.trainer.precision_plugin.load_state_dict(saved["precision"])
        self.generators = saved["generators"]


def train(fit: Fit) -> float:
    """Train one stage to its last step; goes on from its checkpoint if there is one. Returns the
    seconds it took, those before an interruption included.

    Raises StageError for a loss that is not finite, Preempted after saving when asked to stop."""
    saved = load_tensors(fit.checkpoint) if fit.checkpoint.exists() else None
    done = saved["step"] if saved else 0
    earlier = saved["seconds"] if saved else 0.0
    began = time.perf_counter() - earlier
    fit.rewind(fit.first + done)
    if saved and done == fit.stage.steps:
        fit.model.load_state_dict(saved["average"] or saved["model"])
    else:
        with captured(fit.model, fit.stage.capture) as features:
            module = StageModule(fit, features, began)
            batches = fit.data.train_batches(fit.seed, fit.first + done, fit.stage.steps - done)
            _trainer(fit.training, fit.stage.steps - done).fit(module, batches)
        if module.step != fit.stage.steps:
            raise StageError(
                f"stage {fit.stage.name}: ended after {module.step} of {fit.stage.steps} steps"
            )
        if module.average:
            fit.model.load_state_dict(module.average)
    if fit.stage.monitor and fit.best.exists():
        fit.model.load_state_dict(load_tensors(fit.best)["model"])
    return time.perf_counter() - began


def _trainer(training: Any, steps: int) -> pl.Trainer:
    return pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator=training.device().type,
        devices=training.devices,
        precision=training.precision,
        gradient_clip_val=training.clip,
        deterministic=training.deterministic,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
