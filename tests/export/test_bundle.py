"""Models that leave as files come back bit by bit."""

import json
import os

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from gossamer.contract import Fact
from gossamer.errors import ConfigError, TargetError
from gossamer.export import bundle
from gossamer.models.surgery import cut_units
from tests.export.examples import LAYER, Mute, Scaled, equal, logits, model_, save


def test_a_dense_model_returns_bit_by_bit_and_leaves_no_sparsity_metadata(tmp_path, builder):
    model = model_()
    files = save(model, tmp_path / "model", builder, [Fact("classifier", (3, 16), "unstructured")])
    loaded = bundle.load(tmp_path / "model")
    assert equal(model, loaded) and torch.equal(logits(model), logits(loaded))
    assert loaded.parts == model.parts and not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not (tmp_path / "model" / "sparsity.json").exists()
    assert {f["path"] for f in files} == {
        f"model/{n}"
        for n in ("config.json", "gossamer.json", "model.safetensors", "unsaved.safetensors")
    }
    size = (tmp_path / "model/model.safetensors").stat().st_size
    assert next(f for f in files if f["path"].endswith("model.safetensors"))["bytes"] == size


def test_transformers_loads_the_folder_as_is_when_no_shape_changed(tmp_path, builder):
    from gossamer.export.bundle import MANIFEST

    model = model_()
    save(model, tmp_path / "model", builder)
    told = json.loads((tmp_path / "model" / MANIFEST).read_text())
    assert told["transformers"] is True and told["reason"] == "no shape changed"
    theirs, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits(theirs.eval()), logits(model))
    assert theirs.config.id2label == {0: "no", 1: "yes", 2: "maybe"}


def test_the_tokenizer_travels_with_the_model(tmp_path, builder):
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from transformers import AutoTokenizer, BertTokenizerFast

    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "yes": 5}
    words = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    save(model_(), tmp_path / "m", builder, tokenizer=BertTokenizerFast(tokenizer_object=words))
    assert AutoTokenizer.from_pretrained(tmp_path / "m").convert_tokens_to_ids("yes") == 5


def test_a_model_with_pruned_heads_returns_and_is_not_offered_to_transformers(tmp_path, builder):
    model = model_()
    cut_units(model, model.parts.units[0], torch.tensor([0, 2, 3]))
    save(model, tmp_path / "model", builder)
    loaded = bundle.load(tmp_path / "model")
    attention = loaded.get_submodule(f"{LAYER}.attention.self")
    assert (attention.num_attention_heads, attention.all_head_size) == (3, 12)
    assert attention.query.weight.shape == (12, 16) and attention.query.out_features == 12
    assert equal(model, loaded) and torch.equal(logits(model), logits(loaded))
    assert loaded.parts == model.parts and loaded.parts.units[0].count == 3
    told = json.loads((tmp_path / "model/gossamer.json").read_text())
    assert told["transformers"] is False and "num_attention_heads" not in told["reason"]
    assert LAYER in told["reason"]
    assert not (tmp_path / "model/config.json").exists()


def test_a_model_with_replaced_removed_and_added_modules_returns(tmp_path, builder):
    model = model_()
    layer = model.get_submodule(LAYER)
    layer.intermediate.dense = Scaled(16, 24, step=0.25, sizes=[1, 2])
    layer.intermediate.dense.codes.data.random_(-9, 9)
    layer.intermediate.dense.scale.uniform_()
    layer.intermediate.dense.table += 1  # no state dict holds it
    layer.intermediate.dense.step = 0.125  # moved on since it was constructed
    layer.output.dense = nn.Linear(24, 16, bias=False)
    layer.output.dropout = nn.Identity()
    model.bert.encoder.layer[1].output.LayerNorm.bias = None
    model.add_module("extra", nn.Linear(2, 2))
    del model.bert.encoder.layer[1].attention.output.dropout
    model.bert.encoder.layer[1].attention.output.dropout = nn.Identity()
    save(model, tmp_path / "model", builder)
    loaded = bundle.load(tmp_path / "model")
    assert equal(model, loaded) and torch.equal(logits(model), logits(loaded))
    packed = loaded.get_submodule(f"{LAYER}.intermediate.dense")
    assert (packed.step, packed.arguments["step"]) == (0.125, 0.25)
    assert packed.codes.dtype == torch.int8
    assert loaded.bert.encoder.layer[1].output.LayerNorm.bias is None


def test_tuples_and_dropped_blocks_survive(tmp_path, builder):
    model = model_()
    del model.bert.encoder.layer[1]
    model.bert.embeddings.LayerNorm.normalized_shape = (16, 1)  # never run: only remembered
    save(model, tmp_path / "model", builder)
    loaded = bundle.load(tmp_path / "model")
    assert len(loaded.bert.encoder.layer) == 1 and equal(model, loaded)
    assert loaded.bert.embeddings.LayerNorm.normalized_shape == (16, 1)


def test_a_tensor_under_two_names_is_stored_once_and_stays_one(tmp_path, builder):
    model = model_()
    first, second = model.bert.encoder.layer[0], model.bert.encoder.layer[1]
    second.output.dense.weight = first.output.dense.weight
    save(model, tmp_path / "model", builder)
    loaded = bundle.load(tmp_path / "model")
    layers = loaded.bert.encoder.layer
    assert layers[1].output.dense.weight is layers[0].output.dense.weight
    assert equal(model, loaded)
    told = json.loads((tmp_path / "model/gossamer.json").read_text())
    assert len(told["shared"]) == 1


def test_half_precision_and_not_a_number_return_bit_by_bit(tmp_path, builder):
    model = model_().bfloat16()
    model.classifier.weight.data[0, 0] = float("nan")
    save(model, tmp_path / "model", builder)
    got, kept = bundle.load(tmp_path / "model").classifier.weight, model.classifier.weight
    assert torch.equal(got.view(torch.int16), kept.view(torch.int16))


def test_sparsity_metadata_counts_the_zeros_of_sparse_weights_only(tmp_path, builder):
    model = model_()
    up = model.get_submodule(f"{LAYER}.intermediate.dense")
    down = model.get_submodule(f"{LAYER}.output.dense")
    up.weight.data.reshape(-1, 4)[:, :2] = 0
    down.weight.data.flatten()[:7] = 0
    facts = [
        Fact(f"{LAYER}.intermediate.dense", (24, 16), "2:4", 0.5, 0.5),
        Fact(f"{LAYER}.output.dense", (16, 24), "unstructured"),
        Fact("classifier", (3, 16), "unstructured"),  # claims a pattern, holds no zero
        Fact(f"{LAYER}.attention.self.query", (12, 16), "heads"),
    ]
    save(model, tmp_path / "model", builder, facts)
    told = json.loads((tmp_path / "model/sparsity.json").read_text())
    seen = {
        g["pattern"]: (g["axis"], [(x["name"], x["zeros"]) for x in g["layers"]])
        for g in told["groups"]
    }
    assert seen == {
        "2:4": (1, [(f"{LAYER}.intermediate.dense", 192)]),
        "unstructured": (None, [(f"{LAYER}.output.dense", 7)]),
    }
    assert bundle.facts(tmp_path / "model") == facts
    up.weight.data[0, :4] = torch.tensor([1.0, 1.0, 1.0, 0.0])
    with pytest.raises(TargetError, match="2:4"):
        save(model, tmp_path / "other", builder, facts)
    assert os.listdir(tmp_path) == ["model"]


def test_a_module_that_cannot_be_rebuilt_is_refused_at_export(tmp_path, builder, monkeypatch):
    model = model_()
    model.bert.pooler.activation = Mute()
    with pytest.raises(ConfigError, match=r"bert\.pooler\.activation.*arguments"):
        save(model, tmp_path / "model", builder)
    model.bert.pooler.activation = Scaled(16, 16)
    model.bert.pooler.activation.arguments["step"] = torch.ones(1)
    with pytest.raises(ConfigError, match="not plain"):
        save(model, tmp_path / "model", builder)
    with pytest.raises(ConfigError, match="allow-list"):
        save(model_(), tmp_path / "model", {"_target_": "os.system"})
    assert not list(tmp_path.iterdir())


def test_a_model_replaced_as_a_whole_is_refused(tmp_path, builder):
    with pytest.raises(ConfigError, match="its builder makes"):
        save(nn.Linear(1, 1), tmp_path / "model", builder)


def test_a_note_on_a_module_travels_and_keeps_transformers_able_to_load(tmp_path, builder):
    from gossamer.export.bundle import MANIFEST

    model = model_()
    model.get_submodule(LAYER).frozen_density = 0.5
    save(model, tmp_path / "model", builder)
    told = json.loads((tmp_path / "model" / MANIFEST).read_text())
    assert told["changes"]["notes"] == {LAYER: {"frozen_density": 0.5}}
    assert bundle.load(tmp_path / "model").get_submodule(LAYER).frozen_density == 0.5
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert told["transformers"] is True and equal(model, theirs)
