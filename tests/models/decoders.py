"""A small LLaMA with its parts named, and batches for it."""

import torch
import transformers
from torch import Tensor, nn

from gossamer.models.parts import Parts

LAYERS = {
    "self_attn.q_proj": "query",
    "self_attn.k_proj": "key",
    "self_attn.v_proj": "value",
    "self_attn.o_proj": "attention_output",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}


def llama(seed: int = 0, layers: int = 3) -> nn.Module:
    """Grouped-query attention, tied embeddings, large random weights, in eval mode."""
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    blocks = tuple(f"model.layers.{index}" for index in range(layers))
    model.parts = Parts(
        blocks=blocks,
        attention=tuple(f"{block}.self_attn" for block in blocks),
        linear={f"{block}.{path}": role for block in blocks for path, role in LAYERS.items()},
        units=(),
        head=("lm_head",),
        embeddings=("model.embed_tokens",),
    )
    return model


def windows(rows: int = 10, width: int = 12, size: int = 4) -> list[dict[str, Tensor]]:
    """Batches of `size` windows of tokens, with labels."""
    ids = torch.randint(50, (rows, width), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": part, "labels": part} for part in ids.split(size)]
