"""hydra/sweeper=optuna: a search whose trials are jobs like those of any sweep; docs/search.md.

Hydra imports this file at every start, so it imports nothing that takes time.
"""

from __future__ import annotations

from typing import Any, Literal

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class Optuna(Sweeper):
    """Arguments as conf/hydra/sweeper/optuna.yaml says."""

    def __init__(
        self,
        n_trials: int = 20,
        objectives: tuple[str, ...] = ("quality",),
        sampler: Literal["tpe", "random", "nsga2", "qmc", "grid"] = "tpe",
        seed: int = 1,
        sampler_options: dict[str, Any] | None = None,
        pruner: Literal["none", "median", "halving", "hyperband"] = "none",
        prune_on: str | None = None,
        pruner_options: dict[str, Any] | None = None,
        n_jobs: int | None = None,
        study_name: str | None = None,
        storage: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> None:
        self.options = {
            "n_trials": n_trials,
            "objectives": _plain(objectives),
            "sampler": sampler,
            "seed": seed,
            "sampler_options": _plain(sampler_options),
            "pruner": pruner,
            "prune_on": prune_on,
            "pruner_options": _plain(pruner_options),
            "n_jobs": n_jobs,
            "study_name": study_name,
            "storage": storage,
            "params": _plain(params),
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from gossamer.cli.search import Options, search

        search(self.launcher, self.config, arguments, Options(**self.options))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
