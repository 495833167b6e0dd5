"""Causal language models: what their parts are, where their weights come from, streaming."""

from pathlib import Path

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from gossamer import targets
from gossamer.errors import ConfigError
from gossamer.models.llama import Llama
from gossamer.models.parts import body_linears, parts_of
from gossamer.models.surgery import cut_units
from gossamer.tasks.language_modeling import LanguageModeling
from tests.models.decoders import DRAWN, FAMILIES, INFO, drawn, saved, tokens

CONF = Path(__file__).parents[2] / "conf" / "model"
BLOCK = ("query", "key", "value", "attention_output", "gate", "up", "down")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_of_the_blocks_is_a_body_layer_and_no_other(family, tmp_path):
    model = Llama(source=saved(tmp_path, family)).build(INFO)
    parts = parts_of(model)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert [*parts.linear] == [name for name in linear if name.startswith("model.layers.")]
    assert [*parts.linear.values()] == [*BLOCK, *BLOCK]
    assert parts.head == ("lm_head",) and parts.embeddings == ("model.embed_tokens",)
    assert parts.blocks == ("model.layers.0", "model.layers.1")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_computes_what_transformers_computes(family, tmp_path):
    source = saved(tmp_path, family)
    model = Llama(source=source).build(INFO).eval()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(source).eval()
    assert torch.equal(model(tokens()).logits, theirs(tokens()).logits)


def test_heads_are_units_only_where_each_has_its_own_key(tmp_path):
    def kinds(family):
        units = parts_of(Llama(source=saved(tmp_path / family, family)).build(INFO)).units
        return [unit.kind for unit in units]

    assert kinds("llama") == ["heads", "neurons"] * 2
    assert kinds("llama, grouped") == ["neurons"] * 2


@pytest.mark.parametrize("kind", ["heads", "neurons"])
def test_cutting_units_computes_what_zeros_in_their_columns_compute(kind):
    model, other = drawn().eval(), drawn().eval()
    units = next(one for one in parts_of(model).units if one.kind == kind)
    keep = torch.tensor([0, 2])
    features = (keep[:, None] * units.size + torch.arange(units.size)).flatten()
    with torch.no_grad():
        for path in units.columns:
            weight = other.get_submodule(path).weight
            gone = torch.ones(weight.shape[1], dtype=torch.bool)
            gone[features] = False
            weight[:, gone] = 0
    cut_units(model, units, keep)
    torch.testing.assert_close(model(tokens()).logits, other(tokens()).logits)


def test_a_seed_decides_the_weights_and_meta_has_their_shapes():
    assert torch.equal(drawn(1).lm_head.weight, drawn(1).lm_head.weight)
    assert not torch.equal(drawn(1).lm_head.weight, drawn(2).lm_head.weight)
    meta = Llama(**DRAWN).build(INFO, meta=True)
    shapes = {name: tensor.shape for name, tensor in drawn().state_dict().items()}
    assert {name: tensor.shape for name, tensor in meta.state_dict().items()} == shapes
    assert all(parameter.is_meta for parameter in meta.parameters())


@pytest.mark.parametrize(("choice", "least", "most"), [("tiny", 2.9, 3.1), ("small", 23, 28)])
def test_the_small_models_have_the_size_that_their_files_say(choice, least, most):
    node = yaml.safe_load((CONF / f"llama_{choice}.yaml").read_text())
    model = targets.build(node, "model").build(INFO, meta=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert least <= count / 1e6 <= most
    for layer in body_linears(model).values():  # what 2:4 kernels take
        assert not any(length % 64 for length in layer.weight.shape)


def test_weights_have_the_asked_dtype_whatever_the_checkpoint_has(tmp_path):
    source = saved(tmp_path, dtype=torch.bfloat16)
    for name in ("float32", "bfloat16"):
        model = Llama(source=source, dtype=name).build(INFO)
        assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, name)}


def test_tied_embeddings_are_one_matrix():
    model = drawn(tied=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_gradient_checkpointing_changes_no_gradient():
    grads = []
    for checkpointing in (False, True):
        model = drawn(gradient_checkpointing=checkpointing)
        model(tokens(), labels=tokens()).loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert model.is_gradient_checkpointing
    torch.testing.assert_close(grads[0], grads[1])


def test_a_streamed_model_computes_the_same_and_says_that_it_streams():
    whole, streamed = drawn().eval(), drawn(stream=True).eval()
    batch = {"input_ids": tokens(), "labels": tokens()}
    task = LanguageModeling()
    expected = task.forward(whole, batch)["logits"]
    assert streamed.stream and not whole.stream
    torch.testing.assert_close(task.forward(streamed, batch)["logits"], expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": None}, "pretrained weights need a source"),
        ({"source": "x", "layers": 2}, "type model.weights=init"),
        ({"source": "x", "tied": True}, "model.tied=True: a pretrained model has its own"),
        ({**DRAWN, "heads": 5}, "model.heads=5: must divide model.width=32"),
        ({**DRAWN, "kv_heads": 3}, "model.kv_heads=3: must divide model.heads=4"),
        ({**DRAWN, "dtype": "float16"}, "model.dtype=float16: float32 or bfloat16"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, words):
    with pytest.raises(ConfigError, match=words):
        Llama(**arguments)


def test_a_context_that_the_model_was_not_made_for_is_a_problem(tmp_path):
    from dataclasses import replace
    from types import SimpleNamespace

    builder = Llama(source=saved(tmp_path))
    data = SimpleNamespace(info=replace(INFO, max_length=65))
    model = builder.build(data.info, meta=True)
    assert builder.requirements(model, SimpleNamespace(info=INFO)) == []
    (line,) = builder.requirements(model, data)
    assert "dataset.context=65" in line and "64 tokens" in line


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    source = saved(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.gate_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 weights of the model, e\.g\. model\.layers\.1"):
        Llama(source=source).build(INFO)


def test_an_encoder_is_refused_and_the_families_are_named(tmp_path):
    from tests.models import encoders

    with pytest.raises(ConfigError, match="laid out like LLaMA"):
        Llama(source=encoders.saved(tmp_path, "bert")).build(INFO)
