"""Finished models on disk and back, and an encoder family laid out unlike BERT."""

import copy

import pytest
import torch
import yaml
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from gossamer.compression.dsee import DSEE, SideBranchLinear
from gossamer.compression.dsee.structured import gates
from gossamer.export import bundle
from gossamer.models.layouts import ENCODERS, find_parts
from gossamer.models.parts import body_linears, parts_of
from gossamer.seeds import drawing

from .built import CONF, INFO, build, finished, logits, on_meta

STRUCTURED = {"heads": 0.5, "neurons": 0.25}


@pytest.mark.parametrize("structure", [{}, STRUCTURED], ids=["unstructured", "structured"])
@pytest.mark.parametrize("deploy", ["merged", "side_branch"])
def test_an_exported_model_computes_the_same_and_proves_the_same(tmp_path, deploy, structure):
    method = DSEE(deploy=deploy, **structure)
    model = finished(method, build("bert_tiny"))
    rows = method.ledger(model)
    bundle.save(
        model,
        tmp_path / "export",
        builder=yaml.safe_load((CONF / "bert_tiny.yaml").read_text()),
        info=INFO,
        tokenizer=None,
        facts=rows,
        fresh=on_meta("bert_tiny"),
    )
    loaded = bundle.load(tmp_path / "export")
    assert torch.equal(logits(loaded), logits(model))
    assert method.ledger(loaded) == rows  # the sparsity of W before merging came along
    checks = method.verify(loaded, model)
    assert checks == method.verify(model, model)
    assert all(check.passed for check in checks), checks
    side = any(isinstance(module, SideBranchLinear) for module in loaded.modules())
    assert side == (deploy == "side_branch")


def distilbert():
    config = DistilBertConfig(
        vocab_size=50,
        dim=32,
        n_heads=4,
        n_layers=2,
        hidden_dim=48,
        max_position_embeddings=32,
        num_labels=len(INFO.classes),
    )
    with drawing(1, "init"):
        model = DistilBertForSequenceClassification(config)
    model.parts = find_parts(model, "distilbert", "drawn", ENCODERS)
    return model


@pytest.mark.parametrize("rule", ["update", "gates"])
def test_distilbert_goes_through_every_stage_too(rule):
    method = DSEE(**STRUCTURED, structure_score=rule)
    model = finished(method, distilbert())
    assert [units.count for units in parts_of(model).units if units.kind == "heads"] == [2, 2]
    assert all(check.passed for check in method.verify(model, copy.deepcopy(model)))
    assert logits(model).isfinite().all() and not gates(model)
    shapes = {tuple(m.weight.shape) for m in body_linears(model, ["query", "key"]).values()}
    assert shapes == {(16, 32)}
