"""Where a Hugging Face model comes from: a hub id, a folder, or a configuration and a draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from gossamer.errors import ConfigError
from gossamer.hub import hub_reachable
from gossamer.models.checkpoint import is_local, locate, reading, weights_digest

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Source:
    """What a builder reads a model from; the arguments are those of `models/bert.py`."""

    name: str | None  # hub id, local folder, or a folder inside `package`; None: only sizes
    weights: Literal["pretrained", "init"]
    package: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    def problems(self, sizes: Mapping[str, int]) -> list[str]:
        """What is wrong with these arguments and the sizes of a drawn model, one line each."""
        found = [f"model.{key}={value}: at least 1" for key, value in sizes.items() if value < 1]
        if self.weights not in ("pretrained", "init"):
            found.append(f"model.weights={self.weights}: pretrained or init")
        if self.weights == "pretrained":
            found += [
                f"model.{key}={value}: a pretrained model has its own; type model.weights=init to "
                f"draw a model of another size"
                for key, value in sizes.items()
            ]
            if self.name is None:
                found.append("model.source=null: pretrained weights need a source")
        width, heads = sizes.get("width"), sizes.get("heads")
        if width and heads and width % heads:
            found.append(f"model.heads={heads}: must divide model.width={width}")
        if self.name is None and self.package is not None:
            found.append(f"model.package={self.package}: name the folder inside it as model.source")
        return found

    def location(self) -> str:
        """A folder's absolute path, or a hub id."""
        assert self.name is not None
        return locate(self.name, self.package)

    def asked(self) -> dict[str, Any]:
        """How every file of the source is asked for."""
        local = is_local(self.location()) or not hub_reachable()
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": local,  # a hub id may still be in the local cache
        }

    def config(self, default: type[PreTrainedConfig]) -> PreTrainedConfig:
        """The source's configuration; without a source, the family's own (`default`)."""
        if self.name is None:
            return default()
        from transformers import AutoConfig

        with reading(self.name):
            return AutoConfig.from_pretrained(self.location(), **self.asked())

    def fingerprint(self) -> str:
        """Identity of the starting weights: "init"; of a local folder, sha256 of its configuration
        and weights; of a hub id, the id and the commit that it resolves to."""
        if self.weights == "init":
            return "init"
        location = self.location()
        if is_local(location):
            return weights_digest(location)
        from transformers import PreTrainedConfig

        commit = self.config(PreTrainedConfig)._commit_hash
        return f"{location}@{commit or self.revision or 'main'}"

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The source's own. Raises ConfigError if there is no source, or it has none."""
        if self.name is None:
            raise ConfigError("model.source=null has no tokenizer: type model.vocabulary=4000")
        from transformers import AutoTokenizer

        with reading(self.name):
            return AutoTokenizer.from_pretrained(self.location(), **self.asked())

    def model(
        self, auto: Any, config: PreTrainedConfig, *, meta: bool, dtype: torch.dtype
    ) -> tuple[nn.Module, dict[str, Any] | None]:
        """What transformers' class `auto` makes of the source, and what it says about loading: None
        where every weight was drawn (from the global generator) or, with `meta`, has no value."""
        with reading(str(self.name)):
            if meta or self.weights == "init":
                with torch.device("meta" if meta else "cpu"):
                    drawn = auto.from_config(
                        config,
                        attn_implementation="sdpa",
                        dtype=dtype,
                        trust_remote_code=self.trust_remote_code,
                    )
                return drawn, None
            return auto.from_pretrained(
                self.location(),
                config=config,
                attn_implementation="sdpa",
                dtype=dtype,  # never what the checkpoint happens to be stored in
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # another number of classes: a new head
                output_loading_info=True,
                **self.asked(),
            )

    def check_loaded(self, report: Mapping[str, Any], model: nn.Module, own: Iterable[str]) -> None:
        """Raise ConfigError if the checkpoint lacked a weight that is not under a path in `own`."""
        mismatched = [
            key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]
        ]
        lacking = sorted(
            key for key in [*report["missing_keys"], *mismatched] if not key.startswith((*own,))
        )
        if lacking:
            raise ConfigError(
                f"model.source={self.name}: the checkpoint lacks {len(lacking)} weights of the "
                f"model, e.g. {lacking[0]}; give a checkpoint of a {type(model).__name__}"
            )


def set_size(config: PreTrainedConfig, names: tuple[str, ...], value: Any, key: str) -> None:
    """Set what a configuration calls by any of `names`. Raises ConfigError if it has none."""
    present = [name for name in names if hasattr(config, name)]
    if not present:
        raise ConfigError(f"{key}={value}: a {config.model_type} configuration has no such size")
    for name in present:
        setattr(config, name, value)
