"""Small encoders of each supported family, as local folders, and batches for them."""

from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from gossamer.data.info import DataInfo
from gossamer.models.bert import Bert
from gossamer.seeds import drawing

INFO = DataInfo("text", ("no", "maybe", "yes"), {}, 32, ("accuracy",), "made up")
SCORES = DataInfo("text", None, {}, 32, ("pearson",), "made up")
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 100,
}
CONFIGS = {
    "bert": transformers.BertConfig(**SIZES, max_position_embeddings=64),
    "roberta": transformers.RobertaConfig(**SIZES, max_position_embeddings=66),
    "electra": transformers.ElectraConfig(**SIZES, embedding_size=16),
    "distilbert": transformers.DistilBertConfig(
        dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=100
    ),
}
FAMILIES = tuple(CONFIGS)


def saved(path: Path, family: str, labels: int = 3) -> str:
    """A folder with a checkpoint of the family: a classifier with seeded weights."""
    config = CONFIGS[family]
    config.num_labels = labels
    with drawing(0, "checkpoint"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(path)
    return str(path)


def built(source: str, seed: int = 0, info: DataInfo = INFO, **arguments: object) -> nn.Module:
    with drawing(seed, "init"):
        return Bert(source=source, **arguments).build(info)


def randomised(model: nn.Module) -> nn.Module:
    """The same model with large random weights and biases (drawn biases are zero)."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def batch(rows: int = 3, width: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 100, (rows, width), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:, width // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}
