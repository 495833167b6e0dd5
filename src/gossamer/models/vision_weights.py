"""Where a timm model's weights come from: a local safetensors file, or the hub that timm names.

Every checkpoint is read as one file of safetensors, by timm's own loading, which converts older
names and fits a checkpoint to other images: positions and relative positions are interpolated to
another size, the embedding of patches is summed or repeated for another number of channels.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors import safe_open
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from gossamer.errors import ConfigError
from gossamer.hub import hub_reachable
from gossamer.models.vision_layouts import MODULES

WEIGHTS = "model.safetensors"  # of a hub repository


@dataclass(frozen=True)
class TimmWeights:
    """A timm model by name, and the file that its pretrained weights are read from."""

    name: str  # with or without a pretrained tag: deit_small_patch16_224.fb_in1k
    file: str | None = None  # a local safetensors file; None: the hub's
    revision: str | None = None  # of the hub's repository

    def known(self) -> PretrainedCfg:
        """What timm knows about the checkpoint. Raises ConfigError for a name it does not have."""
        architecture, _, tag = self.name.partition(".")
        if not timm.is_model(architecture):
            names = timm.list_models(module=MODULES, include_tags=bool(tag))
            raise ConfigError(
                f"model.source={self.name}: no model of timm {timm.__version__}"
                f"{_nearest(self.name, names)}"
            )
        tagged = timm.list_models(f"{architecture}.*", include_tags=True)
        if tag and self.name not in tagged:
            raise ConfigError(
                f"model.source={self.name}: {architecture} has no pretrained tag {tag}"
                f"{_nearest(self.name, [*tagged, architecture])}"
            )
        return get_pretrained_cfg(self.name) or PretrainedCfg()

    def problems(self) -> list[str]:
        """A line if the local file is missing, or is no safetensors file."""
        if self.file is None or (Path(self.file).is_file() and self.file.endswith(".safetensors")):
            return []
        kind = "is no *.safetensors file" if Path(self.file).is_file() else "no such file"
        return [f"model.file={self.file}: {kind}; give a safetensors file of {self.name}'s weights"]

    def fingerprint(self) -> str:
        """sha256 of the local file; or the hub's id and the commit that it resolves to."""
        if self.file is not None:
            self._check()
            with Path(self.file).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        # where the hub cannot be asked, the commit is that of the weights in the local cache
        path = self._from_hub("config.json" if hub_reachable() else WEIGHTS)
        return f"{self.known().hf_hub_id}@{path.parent.name}"

    def load(self, **arguments: Any) -> nn.Module:
        """The model with the checkpoint's weights, every one of them, its head included.

        What the checkpoint is strict about: that it has all weights of the model and no others, in
        the model's shapes once they are fitted to `arguments` (img_size, in_chans, sizes).

        Raises:
            ConfigError: an unreachable hub, an unreadable file, or other weights than the model's.
        """
        known = self.known()
        self._check()
        path = self._from_hub(WEIGHTS) if self.file is None else Path(self.file)
        try:
            classes, channels = _head_and_channels(path, known)
            overlay = {
                "file": str(path),
                "num_classes": classes,
                "input_size": (channels, *known.input_size[1:]),
            }
            return timm.create_model(
                self.name,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
                num_classes=classes,
                **arguments,
            )
        except Exception as error:  # whatever torch, timm or safetensors make of a wrong file
            reason = " ".join(str(error).split())[:240]
            what = f"model.source={self.name}" if self.file is None else f"model.file={self.file}"
            raise ConfigError(
                f"{what}: does not hold the weights of {self.name}, all of them and no others "
                f"({reason})"
            ) from error

    def _check(self) -> None:
        if problems := self.problems():
            raise ConfigError(*problems)

    def _from_hub(self, filename: str) -> Path:
        """A file of the model's hub repository in the local cache, downloaded if need be."""
        from huggingface_hub import hf_hub_download

        repository = self.known().hf_hub_id
        if not repository:
            tags = timm.list_models(f"{self.name.partition('.')[0]}.*", pretrained=True)
            names = ", ".join(f"model.source={name}" for name in tags[:3])
            raise ConfigError(
                f"model.source={self.name}: timm names no pretrained weights on the hub; type "
                f"{names or 'model.file=FILE'}, or model.weights=init"
            )
        try:
            return Path(
                hf_hub_download(
                    repository,
                    filename,
                    revision=self.revision,
                    local_files_only=not hub_reachable(),  # it may still be in the local cache
                )
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:240]
            raise ConfigError(
                f"model.source={self.name}: {repository}/{filename} cannot be read from the hub "
                f"({reason}); give its weights as model.file=FILE, or type model.weights=init"
            ) from error


def _head_and_channels(path: Path, known: PretrainedCfg) -> tuple[int, int]:
    """Classes of a checkpoint's head (0: it has none) and channels of its images."""
    classifier = known.classifier
    name = classifier if isinstance(classifier, str) else (classifier or ("head",))[0]
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        # checkpoints of the Swin authors name the head as those of ViT do
        head = next((key for key in (f"{name}.weight", "head.weight") if key in keys), None)
        classes = file.get_slice(head).get_shape()[0] if head else 0
        shape = file.get_slice(f"{known.first_conv or 'patch_embed.proj'}.weight").get_shape()
    return classes, shape[1] if len(shape) == 4 else known.input_size[0]


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return f"; type model.source={' or '.join(close)}" if close else ""
