"""Experiments on two CPU processes (gloo), and systems of which one rank goes wrong."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from gossamer import plan
from gossamer.contract import Fact, Method
from gossamer.dense import Dense
from gossamer.execution import execute
from gossamer.journal import Journal
from gossamer.stages import Experiment, Training, Watch, plan_stages
from tests.contract import fakes, table
from tests.contract.fakes import System

STRATEGIES = ("ddp", "fsdp")


def row(name: str, **changes: Any) -> Experiment:
    """A row of the contract table. Without dropout, for each rank draws its own."""
    made = table.experiment(table.ROWS[name])
    made.builder.dropout = 0.0
    made.training = replace(made.training, **changes)
    return made


def system(one: System, **changes: Any) -> Experiment:
    data = fakes.Points()
    data.load()
    training = Training(
        base_steps=4, steps=7, lr=0.02, checkpoint_every=2, accelerator="cpu", progress=False
    )
    methods = {method.__name__: method() for method in one.methods}
    nodes = {"model": repr(one)}
    training = replace(training, **changes)
    return Experiment(one.builder(), one.task(), data, training, 3, methods, nodes)


def run(made: Experiment, directory: Path, watch: Watch | None = None) -> dict[str, torch.Tensor]:
    """Dense start, stages, finalize, as `gossamer.run` does; the finished weights."""
    budget, watch = plan.budget(made), watch or Watch()
    start = Dense(made, (budget.base,) if budget.base else (), directory).model(watch)
    journal = Journal(directory / "run", {"config": "same"})
    execute(made, start, plan_stages(made, budget.steps), journal, budget.base, watch)
    return made.finalize(start).state_dict()


class StillNet(fakes.Net):
    """Without dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Identity()


class Still(fakes.Builder):
    net = StillNet


class InBlocks(Still):
    """Names its blocks, so that they are sharded one by one."""

    def build(self, info, *, meta=False):
        model = super().build(info, meta=meta)
        model.parts = SimpleNamespace(blocks=("blocks.0", "blocks.1"))
        return model


def on_rank_1() -> bool:
    return os.environ.get("RANK") == "1"


class Watched(Method):
    """Trains on; in its third step one rank does what a subclass says."""

    start = "init"

    def after_step(self, step, model, optimizer):
        if step == 3 and on_rank_1():
            self.misbehave(model)

    def misbehave(self, model):
        raise NotImplementedError

    def ledger(self, loaded):
        return [Fact("head", (fakes.CLASSES, fakes.WIDE))]


class Raises(Watched):
    def misbehave(self, model):
        raise ValueError("no such thing\nas a second line")


class Dies(Watched):
    def misbehave(self, model):
        os.kill(os.getpid(), signal.SIGKILL)


class IsTold(Watched):
    """A signal reaches one rank only."""

    def misbehave(self, model):
        os.kill(os.getpid(), signal.SIGUSR1)


class Drifts(Method):
    """Puts what a rank draws from its own generator into a buffer."""

    start = "init"

    def prepare(self, model):
        model.blocks[1].register_buffer("noise", torch.zeros(3))

    def after_step(self, step, model, optimizer):
        model.blocks[1].noise.copy_(torch.rand(3))

    def ledger(self, loaded):
        return [Fact("head", (fakes.CLASSES, fakes.WIDE))]


class Breaks(Watched):
    """One rank's weights, of which it has some rows only, become infinite."""

    def misbehave(self, model):
        with torch.no_grad():
            weight = model.blocks[0].weight
            getattr(weight, "_local_tensor", weight)[0, 0] = float("inf")


class ReadsWeights(Method):
    """A penalty on weights, outside the modules that hold them."""

    start = "init"

    def losses(self, model, task, batch, output, teacher):
        return {"decay": 1e-3 * model.blocks[0].weight.square().sum()}

    def ledger(self, loaded):
        return [Fact("head", (fakes.CLASSES, fakes.WIDE))]
