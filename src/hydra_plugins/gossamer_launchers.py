"""Hydra launchers whose jobs are fresh processes that read one resolved file.

Hydra imports this file at every start, so it imports nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from gossamer.sweep.driving import Workers


class _Jobs(Launcher):
    """What the three have in common: hand the jobs to their workers."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config

    def workers(self) -> Workers:
        raise NotImplementedError

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from gossamer.cli.sweep import launch

        states = launch(self.workers(), self.config, job_overrides)
        return [
            JobReturn(overrides=list(typed), status=JobStatus.COMPLETED, _return_value=state)
            for typed, state in zip(job_overrides, states, strict=True)
        ]


class Local(_Jobs):
    """Processes of this machine. Arguments as in gossamer/sweep/local.py."""

    def __init__(
        self,
        workers: int = 1,
        threads: int | None = None,
        gpus: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.arguments = (workers, threads, gpus, _plain(environment))

    def workers(self) -> Workers:
        from gossamer.sweep.local import Local

        return Local(*self.arguments)


class SubmititSlurm(_Jobs):
    """A Slurm queue, through submitit. null is Slurm's own default.

    Args:
        cpus_per_task, gpus_per_node, mem_gb: of one job; timeout_min: its time limit.
        signal_delay_s: before the limit, when the job saves its state and is queued again.
        max_attempts: of one job, the first included.
        array_parallelism: jobs of the sweep that run at once, at most.
        setup: shell lines before a job starts, such as "module load cuda".
        additional_parameters: anything else that sbatch takes.
    """

    def __init__(
        self,
        timeout_min: int = 60,
        cpus_per_task: int = 1,
        gpus_per_node: int | None = None,
        mem_gb: float | None = None,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        array_parallelism: int = 256,
        signal_delay_s: int = 90,
        max_attempts: int = 10,
        setup: list[str] | None = None,
        additional_parameters: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.cpus, self.most = cpus_per_task, max_attempts
        self.environment = _plain(environment)
        self.options = {
            "job_name": "gossamer",
            "time": timeout_min,
            "gpus_per_node": gpus_per_node,
            "mem": None if mem_gb is None else f"{round(mem_gb * 1024)}M",
            "partition": partition,
            "account": account,
            "qos": qos,
            "constraint": constraint,
            "array_parallelism": array_parallelism,
            "signal_delay_s": signal_delay_s,
            "setup": _plain(setup),
            "additional_parameters": _plain(additional_parameters),
        }

    def workers(self) -> Workers:
        from gossamer.sweep.slurm import Slurm

        return Slurm(self.options, self.cpus, self.most, self.environment or {})


class Ray(_Jobs):
    """A Ray cluster. Arguments as in gossamer/sweep/ray_cluster.py."""

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.arguments = (address, cpus, gpus, _plain(environment) or {})

    def workers(self) -> Workers:
        from gossamer.sweep.ray_cluster import Ray

        return Ray(*self.arguments)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
