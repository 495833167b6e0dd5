"""Whole runs of language models on the embedded corpus, one per method: what they leave, and that
transformers reads it."""

import json

import pytest
import torch
import yaml

import gossamer
from tests.runs.commands import LANGUAGE, metrics, record
from tests.runs.commands import gossamer as command

ONE_SHOT = ("wanda", "sparsegpt")
TRAINED = ("fixed_mask", "sr_ste", "ast", "cast")
SAMPLES = {name: f"compression.{name}.samples=16" for name in ONE_SHOT}
RUNS = {
    name: (f"compression={name}", *([SAMPLES[name]] if name in SAMPLES else []))
    for name in ("none", "magnitude", *ONE_SHOT, *TRAINED)
}
SPARSE = [name for name in RUNS if name not in ("none", "magnitude")]  # all 2:4 by default
every_run = pytest.mark.parametrize("name", RUNS)
every_sparse_run = pytest.mark.parametrize("name", SPARSE)


@pytest.fixture
def run(name, finished_language):
    return finished_language(*RUNS[name])


@every_run
def test_a_run_of_a_language_model_is_recorded_with_tokens_and_bits_per_byte(name, run):
    told = record(run.directory)
    assert told["quality"]["primary"] == "perplexity" and told["quality"]["direction"] == "min"
    assert told["quality"]["compressed"].keys() == {"perplexity", "bits_per_byte", "loss"}
    assert told["budget"]["tokens"] == told["budget"]["steps"] * 8 * 32
    assert told["budget"]["unspent"] == (6 if name in ONE_SHOT else 0)
    assert [entry["workload"] for entry in told["speed"]] == [
        "batch 1, 32 tokens",
        "batch 8, 32 tokens",
    ]
    assert all(check["passed"] for check in told["checks"])


@every_sparse_run
def test_every_group_of_four_has_two_zeros_and_the_cpu_is_said_to_gain_nothing(name, run):
    told = record(run.directory)
    model = gossamer.load(run.directory / "export")
    assert len(told["layers"]) == 14
    for row in told["layers"]:
        weight = model.get_submodule(row["name"]).weight
        assert row["pattern"] == "2:4" and row["density"] == 0.5
        assert ((weight.reshape(-1, 4) == 0).sum(1) == 2).all()
    told_of_speed = [note for entry in told["speed"] for note in entry["notes"]]
    assert set(told_of_speed) == {"2:4: no CPU kernel skips the zeros; its products are dense"}
    assert told_of_speed[0] in run.out
    pattern = json.loads((run.directory / "export" / "sparsity.json").read_text())
    (group,) = pattern["groups"]
    assert (group["pattern"], group["axis"], len(group["layers"])) == ("2:4", 1, 14)


@pytest.mark.parametrize("name", ["none", "sparsegpt", "cast"])
def test_transformers_loads_the_export_as_it_is_and_computes_the_same(name, run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run.directory / "export"
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("def größer(a, b):\n    return a > b", return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == "def größer(a, b):\n    return a > b"
    with torch.no_grad():
        assert torch.equal(theirs(ids).logits, gossamer.load(folder)(ids).logits)


def test_cast_says_what_pruning_cost_and_how_far_the_weights_had_shrunk(finished_language):
    run = finished_language(*RUNS["cast"])
    train, prune = record(run.directory)["stages"]
    assert (train["name"], prune["name"]) == ("cast.train", "cast.prune")
    assert train["teacher_passes"] == train["steps"] == 6
    figures = train["figures"]
    assert 0 < figures["sparse_weight_ratio"] < 1
    assert 0 < figures["masked_mean"] <= figures["masked_max"]
    assert figures["decay"] == 4e-7
    logged = [line for line in metrics(run.directory) if "train/flips" in line]
    assert len(logged) == 6 and {"train/task", "train/kl", "train/masked_max"} <= logged[0].keys()
    jump = prune["quality_after"]["loss"] - prune["quality_before"]["loss"]
    assert jump != 0  # the forward was dense until then


def test_a_pretrained_folder_is_compressed_like_a_drawn_model(finished_language, shared):
    base = finished_language(*RUNS["none"]).directory / "export"
    own = [word for word in LANGUAGE if not word.startswith(("model", "trainer.base_steps"))]
    words = (*own, "model=llama", f"model.source={base}", "trainer.base_steps=0")
    ended = command(*words, *RUNS["wanda"], cwd=shared)
    assert ended.status == 0, ended.err
    (line,) = [one for one in ended.out.splitlines() if one.startswith("record ")]
    told = record((shared / line.split(maxsplit=1)[1]).parent)
    assert told["budget"]["base"] == told["budget"]["steps"] == 0
    before = record(base.parent)["quality"]["compressed"]["loss"]
    assert told["quality"]["dense"]["loss"] == pytest.approx(before, rel=1e-6)
    assert told["quality"]["compressed"]["loss"] != before


def test_a_streamed_model_is_pruned_and_evaluated_like_a_whole_one(finished_language, shared):
    base = finished_language(*RUNS["none"]).directory / "export"
    own = [word for word in LANGUAGE if not word.startswith(("model", "trainer.base_steps"))]
    words = (*own, "model=llama", f"model.source={base}", "trainer.base_steps=0")
    losses = []
    for stream in ("false", "true"):
        ended = command(*words, *RUNS["sparsegpt"], f"model.stream={stream}", cwd=shared)
        assert ended.status == 0, ended.err
        (line,) = [one for one in ended.out.splitlines() if one.startswith("record ")]
        told = record((shared / line.split(maxsplit=1)[1]).parent)
        losses.append(told["quality"]["compressed"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_zero_shot_tasks_are_asked_of_the_model_and_its_twin(finished_language, shared, tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [
        {"context": f"def f{n}(x):", "choices": ["return x", "import os"], "label": n % 2}
        for n in range(8)
    ]
    for task, split in (("piqa", "validation"), ("arc_easy", "test")):
        (tmp_path / task).mkdir()
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / task / f"{split}.parquet")
    asked = ("eval.zero_shot=[piqa,arc_easy]", f"eval.folder={tmp_path}", "eval.limit=6")
    ended = command(*LANGUAGE, *RUNS["wanda"], *asked, cwd=shared)
    assert ended.status == 0, ended.err
    (line,) = [one for one in ended.out.splitlines() if one.startswith("record ")]
    quality = record((shared / line.split(maxsplit=1)[1]).parent)["quality"]
    for side in ("dense", "compressed"):
        figures = {n: v for n, v in quality[side].items() if n.startswith("zero_shot/")}
        assert figures.keys() == {"zero_shot/piqa", "zero_shot/arc_easy", "zero_shot/mean"}
        assert all(0 <= value <= 1 for value in figures.values())
    assert "zero_shot/piqa" in ended.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("compression=cast", "compression.cast.scales=3"), "scales=3"),
        (("compression=cast", "compression.cast.pattern=unstructured"), "pattern=unstructured"),
        (("compression=cast", "model.dtype=bfloat16"), "trainer.precision=bf16-mixed"),
        (("compression=wanda", "compression.wanda.samples=0"), "samples=0: at least 1"),
        (("compression=sparsegpt", "model.stream=true"), "trainer.base_steps=0"),
        (("compression=cast", "dataset=docstrings"), "model: takes language"),
        (("model=minilm",), "model: takes text"),
        (("eval.zero_shot=[hellaswg]",), "hellaswag"),
        (("eval.zero_shot=[piqa]", "model.stream=true"), "needs the whole model on the device"),
    ],
)
def test_what_cannot_work_is_said_before_a_weight_is_allocated(words, told, tmp_path):
    chosen = [w.split("=")[0] for w in words]
    own = [w for w in LANGUAGE if w.split("=")[0] not in chosen]
    if "model" in chosen:
        own = [word for word in own if not word.startswith("model.")]
    if "dataset" in chosen:
        own = [word for word in own if not word.startswith("dataset.")]
    ended = command("plan", *own, *words, cwd=tmp_path)
    assert ended.status == 2 and told in ended.err, ended.err


def test_the_resolved_configuration_names_the_task(finished_language):
    run = finished_language(*RUNS["none"])
    config = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert config["task"]["_target_"].endswith("LanguageModeling")
