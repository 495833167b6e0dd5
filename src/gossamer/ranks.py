"""What the processes that train one stage together do with each other, and how the stage is laid
out over them.

Each process has a rank from 0 and one device. Rank 0 is the driver: it alone evaluates, writes and
logs. Everything here is done by all ranks at the same point, or by none; alone it costs nothing.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from gossamer.sparsity.masks import laid_out


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those of this machine: the number of its device
    local_size: int = 1

    @staticmethod
    def named() -> Ranks:
        """As the environment says, in torchrun's words."""
        size = int(os.environ["WORLD_SIZE"])
        return Ranks(
            int(os.environ["RANK"]),
            size,
            int(os.environ.get("LOCAL_RANK", os.environ["RANK"])),
            int(os.environ.get("LOCAL_WORLD_SIZE", size)),
        )

    @property
    def driver(self) -> bool:
        return self.rank == 0

    # Small things travel over gloo, from the CPU: no device has to wait for them.

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over the ranks, on the CPU."""
        if self.size == 1:
            return values.detach().cpu()
        total = values.detach().to("cpu", copy=True)  # summed up in place
        dist.all_reduce(total)
        return total / self.size

    def any(self, flags: list[bool]) -> list[bool]:
        """Of each flag: is it set on any rank?"""
        if self.size == 1 or not flags:
            return flags
        counts = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(counts, dist.ReduceOp.MAX)
        return [bool(count) for count in counts]

    def gather(self, content: Any) -> list[Any]:
        """What every rank has, by rank."""
        if self.size == 1:
            return [content]
        gathered = [None] * self.size
        dist.all_gather_object(gathered, content)
        return gathered

    def whole(self, content: Any) -> Any:
        """`content` (nested dicts and lists) with every sharded tensor put together, on the CPU of
        the driver; the other ranks help and get None in its place."""
        if self.size == 1:
            return content
        if isinstance(content, dict):
            return {key: self.whole(value) for key, value in content.items()}
        if isinstance(content, list):
            return [self.whole(value) for value in content]
        if isinstance(content, DTensor):
            full = content.full_tensor()
            return full.cpu() if self.driver else None
        return content


ALONE = Ranks()


def sharded(tensors: dict[str, Tensor]) -> list[str]:
    """Names of the tensors of which each rank has a part, as all that is computed from sharded
    parameters outside the modules that put them together."""
    return [name for name, tensor in tensors.items() if isinstance(tensor, DTensor)]


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an optimizer's state that `Ranks.whole` put together: what is shaped like its parameter
    is laid out like it."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        index: {
            name: laid_out(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in entries.items()
        }
        for index, entries in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": state})


def differing(ranks: Ranks, model: nn.Module) -> list[str]:
    """Names of the tensors that are not bit by bit the same on all ranks, those that are sharded
    (of which each rank has its own rows) left out."""
    if ranks.size == 1:
        return []
    mine = {
        name: hashlib.blake2b(_bytes(tensor), digest_size=16).hexdigest()
        for name, tensor in model.state_dict().items()
        if not isinstance(tensor, DTensor)
    }
    everyone = ranks.gather(mine)
    return [name for name in mine if len({other[name] for other in everyone}) > 1]


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def shard(model: nn.Module, device: str, size: int) -> None:
    """Spread the parameters of `model` over the ranks, in place: the blocks that its builder named
    are put together one at a time, when they are needed (FSDP2)."""
    mesh = init_device_mesh(device, (size,))
    parts = getattr(model, "parts", None)
    for path in parts.blocks if parts is not None else ():
        fully_shard(model.get_submodule(path), mesh=mesh)
    fully_shard(model, mesh=mesh)


class Sharded(DDPStrategy):
    """Lightning's processes and devices of DDP, around a model that shards itself with FSDP2.

    Lightning's own strategy for FSDP2 wants the parameters sharded before it moves them, and its
    FSDP strategy refuses the CPU, where the tests of this run."""

    def configure_ddp(self) -> None:
        module = self.lightning_module
        assert module is not None and isinstance(module.model, nn.Module)
        shard(module.model, self.root_device.type, self.world_size)

    def teardown(self) -> None:
        """Leaves the model where it is: in the middle of a step, where an error may come from,
        FSDP2 cannot move it, and would hide that error behind its own."""
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()


class Placed(ClusterEnvironment):
    """Tells Lightning the ranks, so that it neither starts processes nor asks a cluster."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    creates_processes_externally = True
    main_address = "127.0.0.1"  # never asked for: the process group is there already
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.ranks.size

    def global_rank(self) -> int:
        return self.ranks.rank

    def local_rank(self) -> int:
        return self.ranks.local_rank

    def node_rank(self) -> int:
        return self.ranks.rank // self.ranks.local_size

    def set_world_size(self, size: int) -> None:
        """Known already."""

    def set_global_rank(self, rank: int) -> None:
        """Known already."""


def trainer(training: Any, ranks: Ranks, steps: int) -> pl.Trainer:
    """The Lightning trainer of `steps` steps on this rank's device."""
    strategy: Strategy | str = "auto"
    if ranks.size > 1:
        # what a stage does not use has no gradient; buffers are the same on all ranks (a stage
        # ends with a check of that), so they are not sent around in every step
        strategy = (
            Sharded()
            if training.strategy == "fsdp"
            else DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
        )
    made = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator=training.device().type,
        devices=ranks.local_size,
        num_nodes=ranks.size // ranks.local_size,
        strategy=strategy,
        plugins=[Placed(ranks)],
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
    # Lightning's handler of SIGTERM broadcasts from wherever the signal hits: the ranks then wait
    # for each other in different places, for ever. A run listens by itself, see interruption.py.
    made._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    return made


def _nothing() -> None:
    """In the place of what Lightning would do."""
