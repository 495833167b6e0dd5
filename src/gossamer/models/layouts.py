"""Where Hugging Face encoders keep what: a model's parts, found by looking at its module paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from gossamer.errors import ConfigError
from gossamer.models.parts import Parts, Role, Units


@dataclass(frozen=True)
class Layout:
    """The paths inside one block of an encoder family, relative to the block."""

    family: str
    attention: str
    head_count: str  # attribute of the attention core: how many heads
    head_width: str  # attribute of the attention core: features per head times heads
    layers: dict[str, Role]  # in execution order

    def fits(self, block: nn.Module) -> bool:
        modules = dict(block.named_modules())
        return all(type(modules.get(path)) is nn.Linear for path in self.layers)


# BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA and what else was derived from BERT's modules
BERT = Layout(
    family="BERT",
    attention="attention.self",
    head_count="num_attention_heads",
    head_width="all_head_size",
    layers={
        "attention.self.query": "query",
        "attention.self.key": "key",
        "attention.self.value": "value",
        "attention.output.dense": "attention_output",
        "intermediate.dense": "up",
        "output.dense": "down",
    },
)
DISTILBERT = Layout(
    family="DistilBERT",
    attention="attention",
    head_count="n_heads",
    head_width="dim",
    layers={
        "attention.q_lin": "query",
        "attention.k_lin": "key",
        "attention.v_lin": "value",
        "attention.out_lin": "attention_output",
        "ffn.lin1": "up",
        "ffn.lin2": "down",
    },
)
LAYOUTS = (BERT, DISTILBERT)


def find_parts(model: nn.Module, base: str, source: str) -> Parts:
    """The parts of a Hugging Face encoder with a classification head.

    Args:
        base: the child that holds the encoder ("bert", "roberta"); every other child with
            parameters is the head.
        source: what the user named, for the error.

    Raises:
        ConfigError: the blocks match no known layout.
    """
    layout, blocks = _find_blocks(model, source)
    linear: dict[str, Role] = {
        f"{block}.{path}": role for block in blocks for path, role in layout.layers.items()
    }
    modules = dict(model.named_modules())
    return Parts(
        blocks=tuple(blocks),
        attention=tuple(f"{block}.{layout.attention}" for block in blocks),
        linear=linear,
        units=tuple(unit for block in blocks for unit in _units(modules, block, layout)),
        head=tuple(
            name
            for name, child in model.named_children()
            if name != base and next(child.parameters(), None) is not None
        ),
        embeddings=tuple(path for path, one in modules.items() if isinstance(one, nn.Embedding)),
    )


def _find_blocks(model: nn.Module, source: str) -> tuple[Layout, list[str]]:
    for path, stack in model.named_modules():
        if isinstance(stack, nn.ModuleList) and len(stack):
            for layout in LAYOUTS:
                if all(layout.fits(block) for block in stack):
                    return layout, [f"{path}.{index}" for index in range(len(stack))]
    families = " and ".join(layout.family for layout in LAYOUTS)
    raise ConfigError(
        f"model.source={source}: {type(model).__name__} has no stack of blocks laid out like "
        f"{families}, so its heads and layers cannot be named; use an encoder of these families "
        f"(bert, roberta, xlm-roberta, camembert, electra, distilbert)"
    )


def _units(modules: dict[str, nn.Module], block: str, layout: Layout) -> tuple[Units, Units]:
    def paths(*roles: Role) -> tuple[str, ...]:
        return tuple(f"{block}.{path}" for path, role in layout.layers.items() if role in roles)

    attention = f"{block}.{layout.attention}"
    heads = cast(int, getattr(modules[attention], layout.head_count))
    size = cast(nn.Linear, modules[paths("query")[0]]).out_features // heads
    counters = ((attention, layout.head_count, 1), (attention, layout.head_width, size))
    up = cast(nn.Linear, modules[paths("up")[0]])
    return (
        Units(
            kind="heads",
            block=block,
            count=heads,
            size=size,
            rows=paths("query", "key", "value"),
            columns=paths("attention_output"),
            counters=counters,
        ),
        Units(
            kind="neurons",
            block=block,
            count=up.out_features,
            size=1,
            rows=paths("up"),
            columns=paths("down"),
        ),
    )
