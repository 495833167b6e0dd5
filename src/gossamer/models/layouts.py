"""Where Hugging Face models keep what: a model's parts, found by looking at its module paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from torch import nn

from gossamer.errors import ConfigError
from gossamer.models.parts import Parts, Role, Units


@dataclass(frozen=True)
class Layout:
    """The paths inside one block of a family, relative to the block.

    `heads` and `head_size` are attributes of the attention core; "" where it infers the number of
    heads from its inputs. `counted` are those that change with the number of heads: {attribute:
    does it count features (rather than heads)?}."""

    family: str
    attention: str
    layers: dict[str, Role]  # in execution order
    heads: str = ""
    head_size: str = ""
    counted: dict[str, bool] = field(default_factory=dict)

    def fits(self, block: nn.Module) -> bool:
        modules = dict(block.named_modules())
        return all(type(modules.get(path)) is nn.Linear for path in self.layers)


# BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA and what else was derived from BERT's modules
BERT = Layout(
    family="BERT",
    attention="attention.self",
    heads="num_attention_heads",
    counted={"num_attention_heads": False, "all_head_size": True},
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
    heads="n_heads",
    counted={"n_heads": False, "dim": True},
    layers={
        "attention.q_lin": "query",
        "attention.k_lin": "key",
        "attention.v_lin": "value",
        "attention.out_lin": "attention_output",
        "ffn.lin1": "up",
        "ffn.lin2": "down",
    },
)
# LLaMA, Mistral, Qwen 2 and 3 and what else was derived from LLaMA's modules
LLAMA = Layout(
    family="LLaMA",
    attention="self_attn",
    head_size="head_dim",
    layers={
        "self_attn.q_proj": "query",
        "self_attn.k_proj": "key",
        "self_attn.v_proj": "value",
        "self_attn.o_proj": "attention_output",
        "mlp.gate_proj": "gate",
        "mlp.up_proj": "up",
        "mlp.down_proj": "down",
    },
)


@dataclass(frozen=True)
class Kind:
    """Layouts that serve the same purpose, and the model types that have them, for the error."""

    name: str
    layouts: tuple[Layout, ...]
    types: str


ENCODERS = Kind(
    "an encoder",
    (BERT, DISTILBERT),
    "bert, roberta, xlm-roberta, camembert, electra, distilbert",
)
DECODERS = Kind("a causal language model", (LLAMA,), "llama, mistral, qwen2, qwen3")


def find_parts(model: nn.Module, base: str, source: str, kind: Kind) -> Parts:
    """The parts of a Hugging Face model.

    Args:
        base: the child that holds the body ("bert", "model"); every other child with parameters is
            the head.
        source: what the user named, for the error.
        kind: ENCODERS or DECODERS.

    Raises:
        ConfigError: the blocks match no known layout.
    """
    layout, blocks = _find_blocks(model, source, kind)
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


def _find_blocks(model: nn.Module, source: str, kind: Kind) -> tuple[Layout, list[str]]:
    for path, stack in model.named_modules():
        if isinstance(stack, nn.ModuleList) and len(stack):
            for layout in kind.layouts:
                if all(layout.fits(block) for block in stack):
                    return layout, [f"{path}.{index}" for index in range(len(stack))]
    families = " or ".join(layout.family for layout in kind.layouts)
    raise ConfigError(
        f"model.source={source}: {type(model).__name__} has no stack of blocks laid out like "
        f"{families}, so its heads and layers cannot be named; use {kind.name} of these families "
        f"({kind.types})"
    )


def _units(modules: dict[str, nn.Module], block: str, layout: Layout) -> Iterator[Units]:
    def paths(*roles: Role) -> tuple[str, ...]:
        return tuple(f"{block}.{path}" for path, role in layout.layers.items() if role in roles)

    def features(role: Role) -> int:
        return cast(nn.Linear, modules[paths(role)[0]]).out_features

    attention = f"{block}.{layout.attention}"
    core = modules[attention]
    if layout.heads:
        heads = cast(int, getattr(core, layout.heads))
    else:
        heads = features("query") // cast(int, getattr(core, layout.head_size))
    size = features("query") // heads
    # where several queries share a key (GQA), a query head is no unit of its own
    if features("query") == features("key"):
        yield Units(
            kind="heads",
            block=block,
            count=heads,
            size=size,
            rows=paths("query", "key", "value"),
            columns=paths("attention_output"),
            counters=tuple(
                (attention, name, size if whole else 1) for name, whole in layout.counted.items()
            ),
        )
    yield Units(
        kind="neurons",
        block=block,
        count=features("up"),
        size=1,
        rows=paths("gate", "up"),
        columns=paths("down"),
    )
