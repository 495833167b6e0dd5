"""The parts of every supported family are found, by looking at the module paths."""

import pytest
import torch
from torch import nn

from gossamer.errors import ConfigError
from gossamer.models.bert import Bert
from gossamer.models.parts import body_linears
from gossamer.models.surgery import replace_module
from tests.models.encoders import FAMILIES, INFO, batch, built, saved


@pytest.mark.parametrize("family", FAMILIES)
def test_body_layers_carry_their_roles_in_the_order_in_which_they_run(family, tmp_path):
    model = built(saved(tmp_path, family)).eval()
    ran = []
    for path, layer in body_linears(model).items():
        layer.register_forward_hook(lambda *_, path=path: ran.append(path))
    model(**batch())
    assert ran == list(model.parts.linear)
    per_block = ["query", "key", "value", "attention_output", "up", "down"]
    assert list(model.parts.linear.values()) == per_block * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_is_a_path_and_head_body_and_embeddings_do_not_overlap(family, tmp_path):
    model = built(saved(tmp_path, family))
    parts = model.parts
    for path in (*parts.blocks, *parts.attention, *parts.linear, *parts.head, *parts.embeddings):
        model.get_submodule(path)
    assert len(parts.blocks) == len(parts.attention) == 2
    in_body = {id(p) for layer in body_linears(model).values() for p in layer.parameters()}
    in_head = {id(p) for path in parts.head for p in model.get_submodule(path).parameters()}
    tables = {id(model.get_submodule(path).weight) for path in parts.embeddings}
    assert not in_body & in_head and not in_body & tables and not in_head & tables
    rest = [
        name
        for name, parameter in model.named_parameters()
        if id(parameter) not in in_body | in_head | tables
    ]
    between = ("norm", "embeddings_project", "pooler")
    assert all(any(word in name.lower() for word in between) for name in rest)


@pytest.mark.parametrize("family", FAMILIES)
def test_units_cover_their_layers_exactly(family, tmp_path):
    model = built(saved(tmp_path, family))
    heads = [units for units in model.parts.units if units.kind == "heads"]
    neurons = [units for units in model.parts.units if units.kind == "neurons"]
    assert [(u.count, u.size) for u in heads] == [(4, 8)] * 2
    assert [(u.count, u.size) for u in neurons] == [(48, 1)] * 2
    for units in model.parts.units:
        for path in units.rows:
            assert model.get_submodule(path).out_features == units.count * units.size
        for path in units.columns:
            assert model.get_submodule(path).in_features == units.count * units.size
        for path, attribute, amount in units.counters:
            assert getattr(model.get_submodule(path), attribute) == units.count * amount


def test_body_linears_can_be_asked_for_by_role(tmp_path):
    model = built(saved(tmp_path, "bert"))
    assert set(body_linears(model, ["query"])) == {
        "bert.encoder.layer.0.attention.self.query",
        "bert.encoder.layer.1.attention.self.query",
    }
    with pytest.raises(ValueError, match="querry"):
        body_linears(model, ["querry"])


def test_a_path_stays_true_when_a_method_wraps_the_module(tmp_path):
    model = built(saved(tmp_path, "bert"))
    path = next(iter(model.parts.linear))
    model.eval()
    replace_module(model, path, nn.Sequential(model.get_submodule(path)))
    wrapped = body_linears(model)[path]
    assert isinstance(wrapped, nn.Sequential) and not wrapped.training
    replace_module(model, "bert.encoder.layer.1", nn.Identity())  # also an item of a ModuleList
    assert isinstance(model.bert.encoder.layer[1], nn.Identity)


@pytest.mark.parametrize("name", ["GPT2Config", "AlbertConfig"])
def test_a_model_that_is_laid_out_otherwise_is_refused(name, tmp_path):
    import transformers

    getattr(transformers, name)().save_pretrained(tmp_path)
    with (
        torch.device("meta"),
        pytest.raises(ConfigError, match=r"no stack of blocks laid out like BERT or DistilBERT"),
    ):
        Bert(source=str(tmp_path)).build(INFO, meta=True)
