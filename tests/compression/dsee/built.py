"""Real models, built as a run builds them, and DSEE taken through its stages by hand."""

import copy
import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import nn

from gossamer.compression.dsee import DSEE
from gossamer.contract import Stage
from gossamer.data.info import DataInfo
from gossamer.models.bert import Bert
from gossamer.seeds import drawing

INFO = DataInfo(
    kind="text",
    classes=("a", "b", "c"),
    rows={"train": 8, "validation": 8, "test": 8},
    max_length=16,
    metrics=("accuracy",),
    name="drawn",
)
CONF = Path(__file__).parents[3] / "conf" / "model"


def builder(choice: str) -> Bert:
    """The builder of conf/model/<choice>.yaml."""
    node = yaml.safe_load((CONF / f"{choice}.yaml").read_text())
    del node["_target_"]
    if choice == "bert":  # its shapes without its checkpoint, which a network would have to bring
        node |= {"source": None, "weights": "init"}
    return Bert(**node)


@functools.cache
def _built(choice: str) -> nn.Module:
    with drawing(1, "init"):
        return builder(choice).build(INFO).eval()


def build(choice: str) -> nn.Module:
    """A copy of the model of conf/model/<choice>.yaml with its starting weights."""
    return copy.deepcopy(_built(choice))


def on_meta(choice: str) -> nn.Module:
    with torch.device("meta"):
        return builder(choice).build(INFO, meta=True)


def small(seed: int = 1, heads: int = 4, layers: int = 2) -> nn.Module:
    """A BERT of 32 features, 4 heads and 48 neurons, for what would be slow on a larger one."""
    sizes = {"layers": layers, "width": 32, "heads": heads, "neurons": 48, "vocabulary": 50}
    with drawing(seed, "init"):
        return Bert(source=None, weights="init", **sizes).build(INFO).eval()


def tokens(model: nn.Module, rows: int = 4, length: int = 12, seed: int = 0) -> dict:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, model.config.vocab_size, (rows, length), generator=draw)
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0  # padding, as in real batches
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def logits(model: nn.Module, **kwargs) -> torch.Tensor:
    return model.eval()(**tokens(model, **kwargs)).logits


def staged(method: DSEE, seed: int = 1) -> dict[str, Stage]:
    """The method's stages by name, as the engine fills them in."""
    return {s.name: replace(s, seed=seed) for s in method.stages([Stage("train")])}


def one_shot(method: DSEE, model: nn.Module, name: str, done: Iterable[str] = ()) -> list[str]:
    stage = staged(method)[name]
    method.enter(stage, model)
    return list(method.apply(stage, model, [], frozenset(done)))


def train(method: DSEE, model: nn.Module, name: str, steps: int = 3, lr: float = 1e-2) -> None:
    """A few steps of AdamW on drawn labels, as the engine would train the stage `name`."""
    method.enter(staged(method)[name], model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    model.train()
    with drawing(1, "dropout", name):
        for step in range(steps):
            batch = tokens(model, seed=step)
            labels = torch.arange(len(batch["input_ids"])) % len(INFO.classes)
            output = model(**batch, labels=labels)
            terms = method.losses(model, None, batch, {"logits": output.logits}, None)
            loss = output.loss + sum(terms.values(), torch.zeros(()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(step + 1, model, optimizer)
    model.eval()


def tuned(method: DSEE, model: nn.Module) -> nn.Module:
    """`model` after the stages before pruning."""
    method.prepare(model)
    one_shot(method, model, "support")
    train(method, model, "tune")
    return model


def pruned(method: DSEE, model: nn.Module) -> nn.Module:
    tuned(method, model)
    one_shot(method, model, "prune")
    return model


def finished(method: DSEE, model: nn.Module) -> nn.Module:
    """`model` after every stage, finalized."""
    pruned(method, model)
    if "recover" in staged(method):
        train(method, model, "recover")
    method.finalize(model)
    return model.eval()
