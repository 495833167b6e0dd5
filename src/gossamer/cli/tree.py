"""The config tree: where it is, what can be chosen in it, composing it with Hydra's own loader."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import GroupDefault
from hydra.core.object_type import ObjectType
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gossamer.cli.suggest import did_you_mean
from gossamer.errors import ConfigError

SEVERAL = "compression"  # the group that takes an ordered list


def conf_dir() -> Path:
    """The shipped tree: gossamer/conf in an installed wheel, conf/ beside src/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if (installed / "config.yaml").is_file() else package.parents[1] / "conf"


def copy_lightly() -> None:
    """Hydra 1.3 deep-copies its whole config repository once for every group it lists: most of the
    time of `--help`. A copy only ever has its list of sources replaced, so a shallow one does."""
    ConfigRepository.__deepcopy__ = lambda self, memo: copy.copy(self)  # type: ignore


def opened(hydra: Any) -> Tree:
    """The tree that Hydra's own settings of a job or a sweep name."""
    sources = {source.provider: source.path for source in hydra.runtime.config_sources}
    searchpath = [each for each in hydra.overrides.hydra if each.startswith("hydra.searchpath=")]
    name = hydra.job.config_name or "config"
    return Tree(sources.get("main"), name, sources.get("command-line"), searchpath)


class Tree:
    """The groups, options and keys of one config tree, with what -cd and search paths add to it."""

    def __init__(
        self,
        directory: str | None = None,
        name: str = "config",
        extra: str | None = None,
        searchpath: Sequence[str] = (),
    ) -> None:
        """`directory` is the main one (None: the shipped tree), `extra` comes from -cd, and
        `searchpath` holds hydra.searchpath overrides. Raises ConfigError where one of them does
        not exist."""
        version.setbase("1.3")
        setup_globals()
        copy_lightly()
        JobRuntime.instance().set("name", "gossamer")
        self.directory = os.path.abspath(directory or conf_dir())
        self.name = name
        self.extra = os.path.abspath(extra) if extra else None
        for flag, folder in (("--config-path", self.directory), ("--config-dir", self.extra)):
            if folder is not None and not os.path.isdir(folder):
                raise ConfigError(f"{flag}={folder}: no such folder")
        path = create_config_search_path(self.directory)
        if self.extra:
            path.prepend("command-line", f"file://{self.extra}", SearchPathQuery(provider="schema"))
        self.loader = ConfigLoaderImpl(config_search_path=path)
        _, self.repository = self.loader._parse_overrides_and_create_caching_repo(None, [])
        if not self.repository.config_exists(name):
            names = self.repository.get_group_options("", ObjectType.CONFIG)
            raise ConfigError(f"--config-name={name}: no such file{did_you_mean(name, names)}")
        _, self.repository = self.loader._parse_overrides_and_create_caching_repo(
            name, list(searchpath)
        )
        self._options: dict[str, list[str]] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The groups of the primary config's defaults list, in its order, and their choices."""
        primary = self.repository.load_config(self.name)
        assert primary is not None
        return {
            default.group: default.value
            for default in primary.defaults_list or []
            if isinstance(default, GroupDefault) and default.group and not default.override
        }

    @property
    def slots(self) -> list[str]:
        """The groups that a run chooses from."""
        return list(self.defaults)

    @cached_property
    def root(self) -> dict[str, Any]:
        """The keys that the primary config itself lists, with their values."""
        primary = self.repository.load_config(self.name)
        assert primary is not None
        content = OmegaConf.to_container(primary.config)
        assert isinstance(content, dict)
        return {
            str(key): value for key, value in content.items() if key not in ("hydra", "defaults")
        }

    def is_group(self, name: str) -> bool:
        return bool(name) and self.repository.group_exists(name)

    def groups(self) -> list[str]:
        """Every top-level group, Hydra's own as hydra/launcher and so on."""
        top = self.repository.get_group_options("", ObjectType.GROUP)
        inner = self.repository.get_group_options("hydra", ObjectType.GROUP)
        return [each for each in top if each != "hydra"] + [f"hydra/{each}" for each in inner]

    def options(self, group: str) -> list[str]:
        """The choices of a group, those of its folders as folder/choice."""
        if group not in self._options:
            found = list(self.repository.get_group_options(group, ObjectType.CONFIG))
            for folder in self.repository.get_group_options(group, ObjectType.GROUP):
                found += [f"{folder}/{each}" for each in self.options(f"{group}/{folder}")]
            self._options[group] = sorted(found)
        return self._options[group]

    def file(self, path: str) -> Path | None:
        """The YAML file of a config such as model/minilm, if it is one."""
        for source in self.repository.get_sources():
            file = Path(source.path) / f"{path}.yaml"
            if source.scheme() in ("file", "pkg") and file.is_file():
                return file
        return None

    def raw(self, path: str) -> dict[str, Any]:
        """What one file lists, without composing it; {} where it is empty or cannot be read."""
        try:
            loaded = self.repository.load_config(path)
            content = OmegaConf.to_container(loaded.config) if loaded is not None else {}
        except Exception:  # a broken file is reported by composing it
            return {}
        return (
            {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}
        )

    def compose(self, overrides: Sequence[str], mode: RunMode = RunMode.RUN) -> DictConfig:
        """The composed config with its hydra node; raises what Hydra raises."""
        key = (mode.name, *overrides)
        if key not in self._composed:
            self._composed[key] = self.loader.load_configuration(
                config_name=self.name,
                overrides=list(overrides),
                run_mode=mode,
                validate_sweep_overrides=False,
            )
        return copy.deepcopy(self._composed[key])
