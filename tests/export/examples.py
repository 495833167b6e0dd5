"""A builder and modules for the export tests, of the kinds that models and methods bring."""

import torch
from torch import nn
from transformers import BertConfig
from transformers import BertForSequenceClassification as Bert

from gossamer.data.info import DataInfo
from gossamer.export import bundle
from gossamer.models.parts import Parts, Units

INFO = DataInfo("text", ("no", "yes", "maybe"), {"train": 9}, 16, ("accuracy",), "fake")
LAYER = "bert.encoder.layer.0"


class TinyBert:
    """A builder like those of gossamer.models, with weights drawn at random."""

    def __init__(self, hidden: int = 16, heads: int = 4) -> None:
        self.hidden, self.heads = hidden, heads

    def build(self, info, *, meta: bool = False):
        config = BertConfig(
            vocab_size=50,
            hidden_size=self.hidden,
            num_hidden_layers=2,
            num_attention_heads=self.heads,
            intermediate_size=24,
            max_position_embeddings=16,
            num_labels=len(info.classes),
        )
        with torch.device("meta" if meta else "cpu"):
            model = Bert(config)
        model.parts = Parts(
            blocks=(LAYER,),
            attention=(f"{LAYER}.attention.self",),
            linear={f"{LAYER}.intermediate.dense": "up", f"{LAYER}.output.dense": "down"},
            units=(
                Units(
                    "heads",
                    LAYER,
                    self.heads,
                    self.hidden // self.heads,
                    tuple(f"{LAYER}.attention.self.{n}" for n in ("query", "key", "value")),
                    (f"{LAYER}.attention.output.dense",),
                    (
                        (f"{LAYER}.attention.self", "num_attention_heads", 1),
                        (f"{LAYER}.attention.self", "all_head_size", self.hidden // self.heads),
                    ),
                ),
            ),
            head=("classifier",),
            embeddings=("bert.embeddings",),
        )
        return model


class Scaled(nn.Module):
    """A module that a method might leave behind: packed values, a table, a plain attribute."""

    def __init__(self, inputs: int, outputs: int, step: float = 0.5, sizes: list | None = None):
        super().__init__()
        self.arguments = {"inputs": inputs, "outputs": outputs, "step": step, "sizes": sizes}
        self.step = step
        self.codes = nn.Parameter(torch.zeros(outputs, inputs, dtype=torch.int8), False)
        self.register_buffer("scale", torch.ones(outputs))
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.inner = nn.Linear(outputs, outputs)

    def forward(self, x):
        weight = self.codes.float() * self.step * self.scale[:, None]
        return self.inner(nn.functional.linear(x, weight)) + self.table.sum()


class Mute(nn.Module):
    """A module that does not say how it is constructed."""


def model_():
    torch.manual_seed(0)
    return TinyBert().build(INFO).eval()


BUILDER = {"_target_": f"{__name__}.TinyBert", "hidden": 16}


def save(model, folder, builder, facts=(), tokenizer=None):
    fresh = TinyBert().build(INFO, meta=True)
    return bundle.save(
        model,
        folder,
        builder=builder,
        info=INFO,
        tokenizer=tokenizer,
        facts=list(facts),
        fresh=fresh,
    )


def equal(one: nn.Module, other: nn.Module) -> bool:
    a = dict(one.named_parameters()) | dict(one.named_buffers())
    b = dict(other.named_parameters()) | dict(other.named_buffers())
    same = {k: v.dtype == b[k].dtype and torch.equal(v, b[k]) for k, v in a.items()}
    return a.keys() == b.keys() and all(same.values())


def logits(model):
    ids = torch.arange(10).reshape(2, 5)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
