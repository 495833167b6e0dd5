"""The contract table's rows, and the small real experiment that each of them is driven through.

A row is an ordered choice of methods with settings. Methods are built from their YAML, so that a
row is what a user would type. To add a method: add a row here (a test fails until there is one).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from gossamer import plan, targets
from gossamer.compression.dsee import SideBranchLinear
from gossamer.compression.sparsifiner.predictor import LowRank, SummedError
from gossamer.data.documents import Documents
from gossamer.data.lm import Corpus
from gossamer.data.splits import Split
from gossamer.data.text import TextClassification
from gossamer.dense import Dense
from gossamer.execution import execute
from gossamer.journal import Journal
from gossamer.models.attention import SelectiveAttention
from gossamer.models.connectivity import Fixed, Oracle
from gossamer.models.low_rank_attention import LowRankAttention
from gossamer.models.token_blocks import PrunedBlock, PrunedBlocks
from gossamer.quantization.packed import PackedConv2d, PackedLinear
from gossamer.seeds import derive
from gossamer.stages import Experiment, Training, Watch, plan_stages
from gossamer.tasks.classification import Classification
from gossamer.tasks.language_modeling import LanguageModeling
from tests.contract.pictures import TINY, PictureClassification, Pictures
from tests.models.decoders import DRAWN

CONF = Path(__file__).parents[2] / "conf"
NODE = {
    "_target_": "gossamer.models.bert.Bert",
    "source": None,
    "weights": "init",
    "vocabulary": 120,
    "layers": 2,
    "width": 32,
    "heads": 4,
    "neurons": 48,
}
LLAMA = {"_target_": "gossamer.models.llama.Llama", **DRAWN}
VIT = {"_target_": "gossamer.models.vit.Vit", **TINY}


@dataclass(frozen=True)
class Row:
    """Methods in order with what differs from their YAML, and what the row promises."""

    methods: Mapping[str, Mapping[str, Any]]
    freezes: bool = False  # some parameters do not train in its trained stages
    tampered: tuple[str, ...] = ()  # what its own verify must find, see tampering.py
    modules: tuple[type[nn.Module], ...] = ()  # that it may leave beside those of a dense model
    language: bool = False  # a causal language model instead of a classifier of texts
    vision: bool = False  # a vision transformer instead


PACKED = (PackedLinear, PackedConv2d)
PRUNED = (SelectiveAttention, PrunedBlock, PrunedBlocks)
CHOSEN = (SelectiveAttention, LowRank, SummedError, Oracle, Fixed)
PREDICTOR = {"samples": 12, "reduce_n": 2}
GRID = {"samples": 20, "quantize_lr": 1e-3, "share": 0.5}
STRUCTURED = {"sparsity": 0.0, "heads": 0.25, "neurons": 0.4}
SIDE = {"deploy": "side_branch"}
ROWS = {
    "none": Row({}),
    "lora": Row({"lora": {}}, freezes=True, tampered=("adapter left",)),
    "magnitude, global": Row({"magnitude": {}}, tampered=("zero filled",)),
    "magnitude, uniform": Row(
        {"magnitude": {"distribution": "uniform"}}, tampered=("zero filled",)
    ),
    "magnitude, 2:4": Row({"magnitude": {"pattern": "2:4"}}, tampered=("zero filled",)),
    "magnitude, no recovery": Row({"magnitude": {"recover": 0.0}}, tampered=("zero filled",)),
    "wanda": Row({"wanda": {"samples": 20}}, tampered=("zero filled",)),
    "wanda, unstructured": Row(
        {"wanda": {"samples": 20, "pattern": "unstructured", "sparsity": 0.6, "recover": 1.0}},
        tampered=("zero filled",),
    ),
    "sparsegpt": Row({"sparsegpt": {"samples": 20}}, tampered=("zero filled",)),
    "sparsegpt, unstructured": Row(
        {"sparsegpt": {"samples": 20, "pattern": "unstructured", "block": 16, "recover": 0.5}},
        tampered=("zero filled",),
    ),
    "magnitude, then sparsegpt": Row(
        {"magnitude": {"sparsity": 0.25}, "sparsegpt": {"samples": 20}}, tampered=("zero filled",)
    ),
    "fixed_mask": Row({"fixed_mask": {}}, tampered=("zero filled",)),
    "fixed_mask, wanda": Row(
        {"fixed_mask": {"score": "wanda", "samples": 20, "pattern": "unstructured"}},
        tampered=("zero filled",),
    ),
    "dsee, no pruning": Row({"dsee": {"sparsity": 0.0}}, freezes=True),  # claims no zero
    "dsee, unstructured": Row({"dsee": {}}, freezes=True, tampered=("zero filled",)),
    "dsee, side branches": Row(
        {"dsee": SIDE},
        freezes=True,
        tampered=("zero filled", "support doubled"),
        modules=(SideBranchLinear,),
    ),
    "dsee, structured": Row({"dsee": STRUCTURED}, freezes=True, tampered=("neuron back",)),
    "dsee, structured by gates": Row(
        {"dsee": {**STRUCTURED, "structure_score": "gates"}},
        freezes=True,
        tampered=("neuron back",),
    ),
    "cast": Row({"cast": {"decay": None}}, tampered=("zero filled",)),
    "cast, AdamS only": Row(
        {"cast": {"decay": 1e-3, "scales": 0, "distill": 0.0}}, tampered=("zero filled",)
    ),
    "cast, 1:4": Row(
        {"cast": {"pattern": "1:4", "refresh": 3, "temperature": 2.0}}, tampered=("zero filled",)
    ),
    "sr_ste": Row({"sr_ste": {}}, tampered=("zero filled",)),
    "sr_ste, unstructured": Row(
        {"sr_ste": {"pattern": "unstructured", "sparsity": 0.6, "refresh": 3}},
        tampered=("zero filled",),
    ),
    "ast": Row({"ast": {"decay": 0.1, "refresh": 3}}, tampered=("zero filled",)),
    "nm_prune": Row({"nm_prune": {}}, tampered=("zero filled",)),
    "ptq": Row({"ptq": {"samples": 20}}, tampered=("off the grid",), modules=(PackedLinear,)),
    "qat": Row(
        {"qat": {"samples": 20, "lr": 1e-3, "calibration": "entropy"}},
        tampered=("off the grid",),
        modules=(PackedLinear,),
    ),
    "gpusq": Row({"gpusq": GRID}, tampered=("zero filled",), modules=(PackedLinear,)),
    "lora, then magnitude": Row(
        {"lora": {}, "magnitude": {}}, freezes=True, tampered=("zero filled",)
    ),
    "magnitude, then dsee with side branches": Row(
        {"magnitude": {"sparsity": 0.25}, "dsee": SIDE},
        freezes=True,
        tampered=("support doubled",),
        modules=(SideBranchLinear,),
    ),
}
ON_LLAMA: dict[str, dict[str, Any]] = {
    "wanda": {"samples": 10},
    "sparsegpt": {"samples": 10},
    "fixed_mask": {"score": "wanda", "samples": 10},
    "sr_ste": {},
    "ast": {},
    "cast": {"decay": None},
}
ROWS |= {"none on LLaMA": Row({}, language=True)} | {
    f"{name} on LLaMA": Row({name: settings}, tampered=("zero filled",), language=True)
    for name, settings in ON_LLAMA.items()
}
ON_VIT: dict[str, dict[str, Any]] = {
    "magnitude": {"pattern": "2:4"},
    "wanda": {"samples": 20},
    "sparsegpt": {"samples": 20},
    "cast": {"decay": None},
}
ROWS |= (
    {
        "none on ViT": Row({}, vision=True),
        "nm_prune, then qat on ViT": Row(
            {"nm_prune": {}, "qat": {"samples": 20, "lr": 1e-3}},
            tampered=("zero filled", "off the grid"),
            modules=PACKED,
            vision=True,
        ),
        "gpusq on ViT": Row(
            {"gpusq": GRID}, tampered=("zero filled",), modules=PACKED, vision=True
        ),
        "gpusq INT4 on ViT": Row(
            {"gpusq": {**GRID, "bits": 4, "hard_target": "teacher"}},
            tampered=("zero filled",),
            modules=PACKED,
            vision=True,
        ),
        "dsee on ViT": Row(
            {"dsee": {"roles": ("qkv",), "neurons": 0.4}},
            freezes=True,
            tampered=("zero filled", "neuron back"),
            vision=True,
        ),
        "sparsifiner on ViT": Row(
            {"sparsifiner": {**PREDICTOR, "recover": 0.5}},
            freezes=True,
            tampered=("budget raised",),
            modules=CHOSEN,
            vision=True,
        ),
        "token_pruning on ViT": Row(
            {"token_pruning": {}}, tampered=("token back",), modules=PRUNED, vision=True
        ),
        "token_pruning, no training, on ViT": Row(
            {"token_pruning": {"recover": 0.0, "locations": (0,), "keep": 0.5}},
            tampered=("token back",),
            modules=PRUNED,
            vision=True,
        ),
        "token_pruning, then sparsifiner on ViT": Row(
            {"token_pruning": {}, "sparsifiner": {**PREDICTOR, "recover": 0.5}},
            freezes=True,
            tampered=("budget raised",),
            modules=(*PRUNED, *CHOSEN),
            vision=True,
        ),
        "token_pruning, then static_attention on ViT": Row(
            {"token_pruning": {}, "static_attention": {"samples": 12}},
            tampered=("budget raised",),
            modules=(*PRUNED, *CHOSEN),
            vision=True,
        ),
        "linformer on ViT": Row(
            {"linformer": {"reduce": 2}},
            tampered=("rank raised",),
            modules=(LowRankAttention,),
            vision=True,
        ),
        "linformer, no training, on ViT": Row(
            {"linformer": {"rank": 3, "recover": 0.0}},
            tampered=("rank raised",),
            modules=(LowRankAttention,),
            vision=True,
        ),
        "magnitude, then linformer on ViT": Row(
            {"magnitude": {}, "linformer": {"rank": 3}},
            tampered=("zero filled", "rank raised"),
            modules=(LowRankAttention,),
            vision=True,
        ),
        "magnitude, then sparsifiner on ViT": Row(
            {"magnitude": {}, "sparsifiner": {**PREDICTOR, "recover": 0.5}},
            freezes=True,
            tampered=("zero filled", "budget raised"),
            modules=CHOSEN,
            vision=True,
        ),
        "sparsifiner, predictor only, on ViT": Row(
            {"sparsifiner": {**PREDICTOR, "recover": 0.0, "keep": 0.6, "scale": "dim"}},
            freezes=True,
            tampered=("budget raised",),
            modules=CHOSEN,
            vision=True,
        ),
        "sparsifiner, oracle, on ViT": Row(
            {"sparsifiner": {**PREDICTOR, "kind": "oracle", "ema": 0.5}},
            tampered=("budget raised",),
            modules=CHOSEN,
            vision=True,
        ),
    }
    | {
        f"static_attention, {kind}, on ViT": Row(
            {"static_attention": {"kind": kind, "samples": 12}},
            tampered=("budget raised",),
            modules=CHOSEN,
            vision=True,
        )
        for kind in ("mean", "window", "random")
    }
    | {
        f"{name} on ViT": Row({name: settings}, tampered=("zero filled",), vision=True)
        for name, settings in ON_VIT.items()
    }
)
COMPRESSED = [name for name, row in ROWS.items() if row.methods]


class Words(TextClassification):
    """Three classes of five-word texts, in memory; a class prefers its own eight words."""

    name = "words"
    sizes = {"train": 48, "validation": 12, "test": 12}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__(batch_size=8, max_length=16)

    def read(self):
        draw = torch.Generator().manual_seed(derive(0, "words"))
        splits = {}
        for split, rows in self.sizes.items():
            labels = [row % 3 for row in range(rows)]
            picked = torch.randint(8, (rows, 5), generator=draw).tolist()
            texts = [
                " ".join([split, str(row), *(f"{'abc'[label]}{word}" for word in words)])
                for row, (label, words) in enumerate(zip(labels, picked, strict=True))
            ]
            splits[split] = Split(texts, None, labels)
        return splits, ("a", "b", "c"), []


class Lines(Corpus):
    """Sixty short documents of a made-up language, in memory."""

    name = "lines"

    def __init__(self) -> None:
        super().__init__(context=16, batch_size=8)

    def read(self):
        draw = torch.Generator().manual_seed(derive(0, "lines"))
        lines = [
            f"{split} {row}: " + " ".join(f"{a}+{b}={a + b}" for a, b in pairs)
            for split, rows in (("train", 40), ("validation", 10), ("test", 10))
            for row in range(rows)
            for pairs in [torch.randint(20, (6, 2), generator=draw).tolist()]
        ]
        cut = {"train": lines[:40], "validation": lines[40:50], "test": lines[50:]}
        return {split: Documents.of(texts) for split, texts in cut.items()}, []


def methods(row: Row) -> dict[str, Any]:
    """Fresh method objects, as a fresh process would build them from the configuration."""
    built = {}
    for name, settings in row.methods.items():
        node = yaml.safe_load((CONF / "compression" / f"{name}.yaml").read_text())
        assert settings.keys() <= node.keys()
        built[name] = targets.build({**node, **settings})
    return built


def experiment(row: Row, seed: int = 3) -> Experiment:
    """Fresh objects for one run: a 2-layer BERT, 32 wide, on the words; or a LLaMA on the lines; or
    a vision transformer on the pictures."""
    training = Training(
        base_steps=4, steps=8, lr=1e-3, checkpoint_every=3, accelerator="cpu", progress=False
    )
    node, task, data = NODE, Classification(), Words()
    if row.language:
        node, task, data = LLAMA, LanguageModeling(), Lines()
    if row.vision:
        node, task, data = VIT, PictureClassification(), Pictures()
    builder = targets.build(node)
    made = Experiment(builder, task, data, training, seed, methods(row), {"model": node})
    made.data.load()
    made.open()
    return made


def run(made: Experiment, outputs: Path, journal: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Take an experiment from its dense start to its finished model, as `gossamer.run` does. The
    finished model, and the rows of its stages."""
    budget = plan.budget(made)
    rows: list[dict[str, Any]] = []
    if made.methods:
        model = Dense(made, (budget.base,) if budget.base else (), outputs).model(Watch())
        plans = plan_stages(made, budget.steps)
        kept = Journal(journal, {"configuration": "the same"})
        rows = execute(made, model, plans, kept, budget.base, Watch())
    else:
        model = Dense(made, budget.twin, outputs).model(Watch())
    return made.finalize(model), rows


@torch.no_grad()
def logits(made: Experiment, model: nn.Module) -> torch.Tensor:
    """Of the test split, in eval mode: (12, 3), or (windows, 16, 300)."""
    model.eval()
    return torch.cat([made.task.forward(model, b)["logits"] for b in made.data.batches("test")])


def same(first: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Bit by bit."""
    return first.keys() == other.keys() and all(torch.equal(first[k], other[k]) for k in first)


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def draws() -> Iterator[torch.Tensor]:
    """The states of the global generators, to compare."""
    import random

    import numpy

    yield torch.get_rng_state()
    yield torch.tensor(random.getstate()[1])
    yield torch.from_numpy(numpy.random.get_state()[1].astype("int64"))
