"""Small causal language models of each supported family, as local folders."""

from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from gossamer.data.info import DataInfo
from gossamer.models.layouts import DECODERS, find_parts
from gossamer.models.llama import Llama
from gossamer.seeds import drawing

INFO = DataInfo("language", None, {}, 16, ("perplexity", "bits_per_byte"), "made up")
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "llama": transformers.LlamaConfig(**SIZES, num_key_value_heads=4),
    "llama, grouped": transformers.LlamaConfig(**SIZES, num_key_value_heads=2),
    "mistral": transformers.MistralConfig(**SIZES, num_key_value_heads=2),
    "qwen2": transformers.Qwen2Config(**SIZES, num_key_value_heads=2),
    "qwen3": transformers.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8),
}
FAMILIES = tuple(CONFIGS)
DRAWN = {
    "source": None,
    "weights": "init",
    "vocabulary": 300,
    "layers": 2,
    "width": 32,
    "heads": 4,
    "neurons": 48,
}


def saved(path: Path, family: str = "llama", dtype: torch.dtype = torch.float32) -> str:
    """A folder with a checkpoint of the family, seeded weights."""
    with drawing(0, "checkpoint"):
        model = transformers.AutoModelForCausalLM.from_config(CONFIGS[family], dtype=dtype)
    model.save_pretrained(path)
    return str(path)


def drawn(seed: int = 0, **arguments: object) -> nn.Module:
    with drawing(seed, "init"):
        return Llama(**{**DRAWN, **arguments}).build(INFO)


def tokens(rows: int = 3, width: int = 16) -> Tensor:
    return torch.randint(100, (rows, width), generator=torch.Generator().manual_seed(1))


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
    model.parts = find_parts(model, "model", "drawn", DECODERS)
    return model


def windows(rows: int = 10, width: int = 12, size: int = 4) -> list[dict[str, Tensor]]:
    """Batches of `size` windows of tokens, with labels."""
    ids = torch.randint(50, (rows, width), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": part, "labels": part} for part in ids.split(size)]
