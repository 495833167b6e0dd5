"""Vision transformers: timm's ViT, DeiT and Swin, with a head for a class.

Dosovitskiy et al. 2021 (ViT, arXiv:2010.11929), Touvron et al. 2021 (DeiT, arXiv:2012.12877), Liu
et al. 2021 (Swin, arXiv:2103.14030), and what else timm builds of the same modules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast

import timm
import torch
from torch import nn

from gossamer.errors import ConfigError
from gossamer.models.vision_layouts import find_vision_parts
from gossamer.models.vision_weights import TimmWeights

if TYPE_CHECKING:
    from gossamer.data.info import DataInfo

Sizes = int | tuple[int, ...]


class Vit:
    """An image classifier, called as `model(x=images)`: (B, channels, height, width) in, logits
    (B, classes) out.

    Images have the size and channels of the data: the positions of pretrained weights are
    interpolated to another size, by timm, and their embedding of patches is summed or repeated for
    another number of channels. A head of another number of classes is drawn anew. A distilled DeiT
    has two heads, and its logits are their mean.

    Args:
        source: timm's name of the model, with or without a pretrained tag.
        weights: "pretrained" reads the checkpoint (safetensors only); "init" draws everything.
        file: a local safetensors file with the model's weights; None: the hub's.
        revision: branch, tag or commit of the hub's repository.
        patch: pixels of a patch's edge; with the sizes below, of a model that is drawn or read
            from a file; None: the source's.
        width: features of a token (of a Swin: in its first stage).
        layers, heads: blocks, and heads of a block; of a Swin a list, one for each stage.
        neurons: width of the feed-forward layer (of a Swin: in its first stage).
        window: tokens of the edge of a Swin's window.
        dropout: of activations, attention and the head's input; None: the source's.
        drop_path: share of the samples that skip the last block (Huang et al. 2016,
            arXiv:1603.09382); it rises linearly from the first block's 0. None: the source's.
    """

    accepts = frozenset({"image"})

    def __init__(
        self,
        source: str = "deit_small_patch16_224",
        weights: Literal["pretrained", "init"] = "pretrained",
        file: str | None = None,
        revision: str | None = None,
        patch: int | None = None,
        width: int | None = None,
        layers: int | tuple[int, ...] | None = None,
        heads: int | tuple[int, ...] | None = None,
        neurons: int | None = None,
        window: int | None = None,
        dropout: float | None = None,
        drop_path: float | None = None,
    ) -> None:
        sizes = {
            "patch": patch,
            "width": width,
            "layers": layers,
            "heads": heads,
            "neurons": neurons,
            "window": window,
        }
        self.sizes: dict[str, Sizes] = {
            key: value if isinstance(value, int) else tuple(value)
            for key, value in sizes.items()
            if value is not None
        }
        self.source, self.weights, self.revision = source, weights, revision
        self.dropout, self.drop_path = dropout, drop_path
        self.checkpoint = TimmWeights(source, file, revision)
        if problems := self._problems():
            raise ConfigError(*problems)

    @property
    def start(self) -> Literal["init", "pretrained"]:
        """Which weights `build` starts from."""
        return self.weights

    def fingerprint(self) -> str:
        """Identity of the starting weights: "init"; sha256 of the local file; or the hub's id and
        the commit that it resolves to."""
        return "init" if self.weights == "init" else self.checkpoint.fingerprint()

    def build(self, info: DataInfo, *, meta: bool = False) -> nn.Module:
        """The model, in training mode, in float32, with `.parts`.

        Everything that is drawn (the new head of a pretrained model too) comes from the global
        torch generator: build inside `gossamer.seeds.drawing(seed, "init")`.

        Args:
            info: of images: `info.image`.
            meta: on the meta device: no weight is read, drawn or allocated.

        Raises:
            ConfigError: a name that timm does not have, a family whose parts are not known, sizes
                it cannot be built in, an unreachable hub, or a checkpoint that lacks weights.
        """
        self.checkpoint.known()
        classes = len(info.classes or ("score",))
        arguments = self._arguments(info)
        shapes = self._drawn("meta", num_classes=classes, **arguments)
        parts = find_vision_parts(shapes, self.source)
        if meta:
            model = shapes
        elif self.weights == "init":
            model = self._drawn("cpu", num_classes=classes, **arguments)
        else:
            model = self.checkpoint.load(**arguments)
            if cast(Any, model).num_classes != classes:
                cast(Any, model).reset_classifier(classes)
        model.parts = parts  # type: ignore[assignment]
        return model.train()

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        """Problems, one line each, of this model with this data."""
        found = self.checkpoint.problems() if self.weights == "pretrained" else []
        _, height, width = data.info.image
        down, across = cast(Any, model).patch_embed.patch_size
        if height % down or width % across:
            resized = f"dataset.size={_next(height, down)}, or " if hasattr(data, "size") else ""
            found.append(
                f"model.source={self.source}: images of {height} x {width} pixels do not divide "
                f"into its patches of {down} x {across}; type {resized}model.patch= a divisor of "
                f"{math.gcd(height, width)}"
            )
        return found

    def _problems(self) -> list[str]:
        found = []
        for key, value in self.sizes.items():
            if min((value,) if isinstance(value, int) else value, default=0) < 1:
                found.append(f"model.{key}={value}: at least 1")
        if self.weights not in ("pretrained", "init"):
            found.append(f"model.weights={self.weights}: pretrained or init")
        if self.weights == "pretrained" and self.checkpoint.file is None:
            found += [
                f"model.{key}={value}: a pretrained model has its own; type model.weights=init to "
                f"draw a model of another size, or model.file=FILE to read one"
                for key, value in self.sizes.items()
            ]
        if self.weights == "init" and self.checkpoint.file is not None:
            found.append(
                f"model.file={self.checkpoint.file}: is read with model.weights=pretrained"
            )
        if self.revision is not None and (self.weights == "init" or self.checkpoint.file):
            found.append(f"model.revision={self.revision}: only of weights from the hub")
        width, heads = self.sizes.get("width"), self.sizes.get("heads")
        if isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads:
            found.append(f"model.heads={heads}: must divide model.width={width}")
        if ("neurons" in self.sizes) and width is None:
            found.append(f"model.neurons={self.sizes['neurons']}: set model.width too")
        for key in ("dropout", "drop_path"):
            rate = getattr(self, key)
            if rate is not None and not 0 <= rate < 1:
                found.append(f"model.{key}={rate}: at least 0 and below 1")
        return found

    def _arguments(self, info: DataInfo) -> dict[str, Any]:
        """timm's names for what the data and the sizes decide, but for the number of classes."""
        assert info.image is not None
        channels, height, width = info.image
        several = "swin" in self.source
        names = {
            "patch": "patch_size",
            "width": "embed_dim",
            "layers": "depths" if several else "depth",
            "heads": "num_heads",
            "window": "window_size",
        }
        given: dict[str, Any] = {
            names[key]: value for key, value in self.sizes.items() if key in names
        }
        if "neurons" in self.sizes:
            given["mlp_ratio"] = _ratio(
                cast(int, self.sizes["neurons"]), cast(int, self.sizes["width"])
            )
        if self.dropout is not None:
            given |= dict.fromkeys(("drop_rate", "proj_drop_rate", "attn_drop_rate"), self.dropout)
        if self.drop_path is not None:
            given["drop_path_rate"] = self.drop_path
        return {"img_size": (height, width), "in_chans": channels, **given}

    def _drawn(self, device: str, **arguments: Any) -> nn.Module:
        """The model with drawn weights, or on the meta device without any."""
        try:
            with torch.device(device):
                return timm.create_model(self.source, **arguments)
        except (TypeError, AssertionError, ValueError, RuntimeError, IndexError) as error:
            sizes = " ".join(f"model.{key}={value}" for key, value in self.sizes.items())
            asked = f"for images of {' x '.join(map(str, arguments['img_size']))} pixels"
            raise ConfigError(
                f"model.source={self.source}: timm does not build it {asked}"
                f"{' with ' + sizes if sizes else ''} ({' '.join(str(error).split())[:160]}); use "
                f"a model of the ViT, DeiT or Swin families, whose layers and heads are numbers "
                f"(Swin: one for each stage, e.g. model.layers=[2,2,6,2])"
            ) from error


def _ratio(neurons: int, width: int) -> float:
    """r with int(width * r) == neurons, as timm computes it."""
    ratio = neurons / width
    return ratio if int(width * ratio) == neurons else math.nextafter(ratio, math.inf)


def _next(pixels: int, patch: int) -> int:
    """The nearest number of pixels that is a multiple of `patch`."""
    return max(patch, round(pixels / patch) * patch)
