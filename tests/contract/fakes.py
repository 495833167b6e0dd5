"""Two-layer fakes of systems that the contract must carry, each in a few lines of its own kind:
an architecture trained in parts, a two-stage objective with generation, a block-streamed quantiser,
a continuous-sparsity optimiser, rewiring from a seeded draw, and one-pass learning."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from gossamer.contract import Fact, Method, Stage
from gossamer.data.info import DataInfo
from gossamer.data.order import OnePass, TrainingOrder, loader
from gossamer.seeds import generator
from gossamer.sparsity import masks
from gossamer.sparsity.patterns import parse

WIDE, CLASSES = 8, 4


class Points:
    """Three splits of separable points. A batch: {"x": (B, 8), "labels": (B,)}."""

    batch_size = 8
    info = DataInfo(
        "text", tuple("abcd"), dict(train=48, validation=16, test=16), 1, ("accuracy",), ""
    )

    def load(self) -> None:
        self.splits = {}
        for split, rows in self.info.rows.items():
            draw = generator(0, "points", split)
            x = torch.randn(rows, WIDE, generator=draw)
            self.splits[split] = (x, x[:, :CLASSES].argmax(1))

    def fingerprint(self) -> str:
        return "points"

    def _loader(self, split: str, order):
        x, labels = self.splits[split]

        class Rows(torch.utils.data.Dataset):
            def __getitem__(self, rows):
                return {"x": x[rows], "labels": labels[rows]}

        return loader(Rows(), order, 0, 0)

    def train_batches(self, seed, first, count, shard=(0, 1)):
        return self._loader("train", TrainingOrder(48, 8, seed, first, count, shard))

    def batches(self, split, *, seed=None):
        return self._loader(split, OnePass(torch.ones(self.info.rows[split]), 8, seed))

    def on_device(self, batch):
        return batch

    def sample(self, batch_size):
        return {
            "x": self.splits["train"][0][:batch_size],
            "labels": self.splits["train"][1][:batch_size],
        }


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(WIDE, WIDE) for _ in range(2))
        self.drop = nn.Dropout(0.2)  # so that a wrong generator state shows in the weights
        self.head = nn.Linear(WIDE, CLASSES)

    def forward(self, x):
        for block in self.blocks:
            x = self.drop(torch.tanh(block(x)))
        return self.head(x)


class Builder:
    start = "init"
    accepts = frozenset({"text"})
    net: type[nn.Module] = Net

    def build(self, info, *, meta=False):
        return self.net()

    def fingerprint(self):
        return "init"


class Classify:
    accepts = frozenset({"text"})

    def primary(self, info):
        return "accuracy", "max"

    def forward(self, model, batch):
        return {"logits": model(batch["x"])}

    def losses(self, model, task, batch, output, teacher):
        return {"task": functional.cross_entropy(output["logits"], batch["labels"])}

    @torch.no_grad()
    def evaluate(self, model, data, split, reference=None, device="cpu", rows=None):
        model.eval()
        right = [
            self.forward(model, b)["logits"].argmax(1) == b["labels"] for b in data.batches(split)
        ]
        return {"accuracy": float(torch.cat(right).float().mean())}


# 1. A model with three separately trained parts and a test-time step


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mixer = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE)
        self.decoder = nn.Linear(WIDE, CLASSES)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        code = self.drop(torch.tanh(self.encoder(x)))
        code = code + self.mixer(code)
        if not self.training:  # the test-time step: pull every sample towards its batch's mean code
            code = code + 0.1 * (code.mean(0, keepdim=True) - code)
        return self.decoder(code)


class ThreeParts(Builder):
    net = Mixture
    parts = ("encoder", "mixer", "decoder")

    def stages(self, training):
        shares = (0.4, 0.3, 0.3)
        return [Stage(part, share, lr=0.01) for part, share in zip(self.parts, shares, strict=True)]

    def enter(self, stage, model):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(stage.name not in self.parts or name.startswith(stage.name))

    def losses(self, model, task, batch, output, teacher):
        return {"size": 1e-3 * output["logits"].square().mean()}  # beside the task's own


# 2. A task with two stages and generation inside the training step, with a frozen reference


class Policy(Classify):
    def stages(self, training):
        return [Stage("imitate", 0.5), Stage("reinforce", 0.5, teacher="imitate", ema=0.5)]

    def enter(self, stage, model):
        self.stage = stage.name

    def losses(self, model, task, batch, output, teacher):
        if self.stage != "reinforce":
            return super().losses(model, task, batch, output, teacher)
        chances = output["logits"].log_softmax(-1)
        drawn = torch.multinomial(chances.exp().detach(), 4, replacement=True)  # (B, group)
        reward = (drawn == batch["labels"][:, None]).float()
        advantage = reward - reward.mean(1, keepdim=True)
        distance = functional.kl_div(
            chances,
            teacher(batch)["logits"].log_softmax(-1),
            log_target=True,
            reduction="batchmean",
        )
        return {"task": -(advantage * chances.gather(1, drawn)).mean(), "kl": 0.04 * distance}


class LowRank(nn.Module):
    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.zeros(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T


class FakeLora(Method):
    start = "init"

    def stages(self, training):
        return [Stage("init", 0.0), *(replace(stage, lr=0.02) for stage in training)]

    def prepare(self, model):
        for index, block in enumerate(model.blocks):
            model.blocks[index] = LowRank(block, 2)

    def apply(self, stage, model, batches, done):
        for index, block in enumerate(model.blocks):
            name = f"blocks.{index}"
            if name not in done:
                with torch.no_grad():
                    block.down.normal_(0, 0.1, generator=stage.generator("down", name))
                yield name

    def enter(self, stage, model):
        for block in model.blocks:
            block.base.requires_grad_(False)

    def finalize(self, model):
        for index, block in enumerate(model.blocks):
            with torch.no_grad():
                block.base.weight += block.up @ block.down
            model.blocks[index] = block.base

    def ledger(self, loaded):
        return [Fact(f"blocks.{i}", (WIDE, WIDE), "low-rank") for i in range(2)]


# 3. A block-streamed one-shot quantiser (sequential: block l sees quantised blocks below)


class BlockQuantiser(Method):
    keeps = frozenset({"sparse weights"})
    produces = frozenset({"quantised weights"})

    def stages(self, training):
        return [Stage("quantise", 0.0)]

    @torch.no_grad()
    def apply(self, stage, model, batches, done):
        x = torch.cat([batch["x"] for batch in batches])
        for index, block in enumerate(model.blocks):
            name = f"blocks.{index}"
            if name not in done:
                scale = (block.weight.abs() * x.abs().mean(0)).amax(1, keepdim=True) / 3
                block.weight.copy_((block.weight / scale).round().clamp(-4, 3) * scale)
                yield name
            x = torch.tanh(block(x))

    def ledger(self, loaded):
        return [Fact(f"blocks.{i}", (WIDE, WIDE), "int3", bits=3) for i in range(2)]


# 4. A continuous-sparsity optimiser with its own state, then an exact mask


class Shrink(torch.optim.Optimizer):
    """Momentum of the raw gradient; masked entries are pulled to zero harder as t nears T."""

    def __init__(self, named, steps: int) -> None:
        super().__init__([{"params": [p for _, p in named]}], {"lr": 0.05, "steps": steps})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["t"], state["momentum"] = 0, torch.zeros_like(parameter)
                alpha = state["t"] / group["steps"]
                state["momentum"].lerp_(parameter.grad, 0.1)
                update = state["momentum"].clone()
                if parameter.ndim == 2 and parameter.shape == (WIDE, WIDE):
                    keep = parse("2:4").mask(parameter.abs(), None)
                    update += (~keep) * alpha * parameter.sign() * 0.1
                parameter -= group["lr"] * update
                state["t"] += 1
        return loss


class ContinuousSparse(Method):
    start = "trained"
    produces = frozenset({"sparse weights"})

    def stages(self, training):
        return [Stage("shrink", 1.0, teacher="start"), Stage("prune", 0.0)]

    def optimizer(self, named, stage):
        return Shrink(named, stage.steps)

    def losses(self, model, task, batch, output, teacher):
        hard = task.losses(model, task, batch, output, teacher)["task"]
        soft = functional.mse_loss(output["logits"], teacher(batch)["logits"])
        return {"task": 0.5 * hard, "distil": 0.5 * soft}

    def apply(self, stage, model, batches, done):
        if "masks" not in done:
            with torch.no_grad():
                for block in model.blocks:
                    block.weight.mul_(parse("2:4").mask(block.weight.abs(), None))
            yield "masks"

    def ledger(self, loaded):
        return [
            Fact(f"blocks.{i}", (WIDE, WIDE), "2:4", 0.5, float((b.weight != 0).float().mean()))
            for i, b in enumerate(loaded.blocks)
        ]


class Recover(Method):
    """Trains on after a sparse method; the engine must hold the zeros."""

    keeps = frozenset({"sparse weights"})

    def ledger(self, loaded):
        return []


# 5. Rewiring from a seeded draw, with no base


class Rewire(Method):
    start = "init"
    produces = frozenset({"sparse weights"})

    def stages(self, training):
        return [Stage("draw", 0.0), *training]

    def prepare(self, model):
        for block in model.blocks:
            masks.attach(block)
            block.register_buffer("rewired", torch.zeros((), dtype=torch.int64))

    def apply(self, stage, model, batches, done):
        for index, block in enumerate(model.blocks):
            if f"blocks.{index}" not in done:
                score = torch.rand(WIDE, WIDE, generator=stage.generator("mask", index))
                masks.attach(block, parse("unstructured").mask(score, 16))
                masks.apply(block)
                yield f"blocks.{index}"

    def enter(self, stage, model):
        self.stage = stage

    def after_step(self, step, model, optimizer):
        for index, block in enumerate(model.blocks):
            if step % 2 == 0:
                mask = block.weight_mask.flatten()
                kept = mask.nonzero().flatten()
                weakest = kept[block.weight.flatten()[kept].abs().argmin()]
                growth = (
                    torch.rand(mask.shape, generator=self.stage.generator("grow", step, index))
                    * block.weight.grad.abs().flatten()
                )
                growth[mask] = -1
                mask[weakest] = False
                mask[growth.argmax()] = True
                block.rewired += 1
            masks.apply(block)

    def finalize(self, model):
        for block in model.blocks:
            masks.remove(block)
            del block.rewired

    def ledger(self, loaded):
        return [
            Fact(f"blocks.{i}", (WIDE, WIDE), "unstructured", 0.25, int((b.weight != 0).sum()) / 64)
            for i, b in enumerate(loaded.blocks)
        ]


# 6. A model that learns in one pass without an optimiser


class Counts(nn.Module):
    """Class sums of thresholded inputs; the sample's best-matching class wins."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(CLASSES, WIDE))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        return (x > 0).float() @ functional.normalize(self.sums, dim=1).T


class OnePassLearner(Builder):
    net = Counts

    def stages(self, training):
        return [Stage("learn", 0.0)]

    def apply(self, stage, model, batches, done) -> Iterator[str]:
        for step, batch in enumerate(batches):
            if f"step {step}" in done:
                continue
            noise = torch.rand(batch["x"].shape, generator=stage.generator("noise", step)) < 0.9
            active = (batch["x"] > 0).float() * noise
            model.sums.index_add_(0, batch["labels"], active)
            model.seen += len(active)
            yield f"step {step}"


@dataclass(frozen=True)
class System:
    """One fake, put together for the engine."""

    builder: type = Builder
    task: type = Classify
    methods: tuple[type[Method], ...] = ()


SYSTEMS = {
    "three parts and a test-time step": System(builder=ThreeParts),
    "two-stage task with generation, with lora": System(task=Policy, methods=(FakeLora,)),
    "block-streamed quantiser": System(methods=(BlockQuantiser,)),
    "continuous sparsity, then a quantiser": System(methods=(ContinuousSparse, BlockQuantiser)),
    "sparse, then trained on": System(methods=(ContinuousSparse, Recover)),
    "rewiring from a seeded draw": System(methods=(Rewire,)),
    "one pass without an optimiser": System(builder=OnePassLearner),
}
