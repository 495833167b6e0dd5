"""Where timm's vision transformers keep what: their parts, found by the classes of their modules.

Classes and not paths alone: some of timm's attention modules read the weight of a layer that they
never call, so what a method puts in that layer's place would compute nothing.
"""

from __future__ import annotations

from typing import Any, cast

from timm.layers import Attention, Mlp, PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import PatchMerging, SwinTransformer, WindowAttention
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from gossamer.errors import ConfigError
from gossamer.models.parts import Parts, Role, Units

MODULES = ("vision_transformer", "deit", "swin_transformer")  # timm's, that hold these families
MODELS = (VisionTransformer, VisionTransformerDistilled, SwinTransformer)
LINEAR: dict[str, Role] = {  # of a block, in execution order
    "attn.qkv": "qkv",
    "attn.proj": "attention_output",
    "mlp.fc1": "up",
    "mlp.fc2": "down",
}


def find_vision_parts(model: nn.Module, source: str) -> Parts:
    """The parts of a timm vision transformer of the ViT, DeiT or Swin family.

    The units that can be cut are the neurons of a block's feed-forward layers. Heads are none: the
    queries, keys and values of a head stand in three places of one matrix, `attn.qkv`.

    Raises:
        ConfigError: the model or its blocks are of another family; `source` is what the user named.
    """
    if type(model) not in MODELS:
        raise _foreign(source, f"timm makes a {type(model).__name__} of it")
    modules = dict(model.named_modules())
    hierarchical = isinstance(model, SwinTransformer)
    stages = [f"layers.{i}" for i in range(len(cast(Any, model).layers))] if hierarchical else []
    blocks = [
        f"{stack}.{index}"
        for stack in ([f"{stage}.blocks" for stage in stages] or ["blocks"])
        for index in range(len(cast(nn.Sequential, modules[stack])))
    ]
    for path in blocks:
        if problem := _problem(modules[path]):
            raise _foreign(source, f"{path} {problem}")
    heads = _classifiers(model)
    return Parts(
        blocks=tuple(blocks),
        attention=tuple(f"{block}.attn" for block in blocks),
        linear={f"{block}.{path}": role for block in blocks for path, role in LINEAR.items()},
        units=tuple(_neurons(modules, block) for block in blocks),
        head=heads,
        embeddings=("patch_embed",),
        outer={**_outer(modules), **dict.fromkeys(heads, cast(Role, "head"))},
        features=tuple(stages),
        **({} if hierarchical else _tokens(model)),
    )


def _foreign(source: str, reason: str) -> ConfigError:
    return ConfigError(
        f"model.source={source}: {reason}, so its layers cannot be named; use a model of the ViT, "
        f"DeiT or Swin families with plain feed-forward layers, e.g. deit_small_patch16_224, "
        f"vit_base_patch16_224, swin_tiny_patch4_window7_224"
    )


def _problem(block: nn.Module) -> str | None:
    """Why a block is not laid out as LINEAR says."""
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    if type(attention) not in (Attention, WindowAttention):
        return f"has {_named(attention)} for its attention"
    if type(mlp) is not Mlp or type(mlp.norm) is not nn.Identity:
        return f"has {_named(mlp)} for its feed-forward layers"
    matrices = {path for path, one in block.named_modules() if isinstance(one, nn.Linear)}
    if matrices != LINEAR.keys():
        return f"has the linear layers {', '.join(sorted(matrices))}"
    return None


def _named(module: nn.Module | None) -> str:
    return "nothing" if module is None else f"a {type(module).__name__} of another layout"


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """The linear layer that says the class; a distilled DeiT has two, whose mean it returns."""
    found = cast(Any, model).get_classifier()
    return tuple(
        path
        for path, module in model.named_modules()
        if any(module is one for one in (found if isinstance(found, tuple) else (found,)))
    )


def _tokens(model: Any) -> dict[str, Any]:
    """Where the tokens leave the blocks, and how many there are of which kind."""
    grid = model.patch_embed.grid_size
    return {"tokens": "norm", "prefix": model.num_prefix_tokens, "grid": tuple(grid)}


def _outer(modules: dict[str, nn.Module]) -> dict[str, Role]:
    """The embedding of patches, if it is one convolution, and what merges patches."""
    found: dict[str, Role] = {}
    if type(modules["patch_embed"]) is PatchEmbed:
        found["patch_embed.proj"] = "patch_embedding"
    for path, module in modules.items():
        if type(module) is PatchMerging:
            found[f"{path}.reduction"] = "reduction"
    return found


def _neurons(modules: dict[str, nn.Module], block: str) -> Units:
    return Units(
        kind="neurons",
        block=block,
        count=cast(nn.Linear, modules[f"{block}.mlp.fc1"]).out_features,
        size=1,
        rows=(f"{block}.mlp.fc1",),
        columns=(f"{block}.mlp.fc2",),
    )
