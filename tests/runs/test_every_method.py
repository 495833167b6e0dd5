"""Whole runs, one per method: what a finished run leaves, and that it is true."""

import itertools
import json
import math

import pytest
import torch
import yaml

import gossamer
from gossamer import plan
from gossamer.cli.rundir import digest
from gossamer.records import record as records
from gossamer.run import read_config
from tests.runs.commands import DOCSTRINGS, contents, copied, figures, metrics, record
from tests.runs.commands import gossamer as command

RUNS = {
    "none": ("compression=none",),
    "lora": ("compression=lora",),
    "magnitude": ("compression=magnitude",),
    "dsee": ("compression=dsee",),
    "dsee, structured": (
        "compression=dsee",
        "compression.dsee.sparsity=0",
        "compression.dsee.heads=0.25",
        "compression.dsee.neurons=0.5",
        "compression.dsee.structure_score=gates",
    ),
    "cast": ("compression=cast", "compression.cast.decay=null"),
    "sr_ste": ("compression=sr_ste",),
    "ast": ("compression=ast",),
    "lora, then magnitude": ("compression=[lora,magnitude]",),
}
STAGES = {
    "none": [],
    "lora": ["lora.init", "lora.train"],
    "magnitude": ["magnitude.prune", "magnitude.train"],
    "dsee": ["dsee.support", "dsee.tune", "dsee.prune", "dsee.recover"],
    "dsee, structured": ["dsee.support", "dsee.tune", "dsee.prune", "dsee.recover"],
    "cast": ["cast.train", "cast.prune"],
    "sr_ste": ["sr_ste.mask", "sr_ste.train", "sr_ste.prune"],
    "ast": ["ast.mask", "ast.train", "ast.prune"],
    "lora, then magnitude": ["lora.init", "lora.train", "magnitude.prune", "magnitude.train"],
}
every_run = pytest.mark.parametrize("name", RUNS)


@pytest.fixture
def run(name, finished):
    return finished(*RUNS[name])


@every_run
def test_a_run_leaves_a_valid_record_of_what_it_did(name, run):
    told = record(run.directory)
    assert records.problems(told) == [] and told["status"] == "done"
    methods = list(yaml.safe_load((run.directory / "config.yaml").read_text())["compression"])
    assert told["choices"] == {
        "model": "bert_tiny",
        "dataset": "docstrings",
        "task": "classification",
        "compression": methods,
    }
    assert [row["name"] for row in told["stages"]] == STAGES[name]
    budget = told["budget"]
    assert budget["total"] == budget["base"] + budget["steps"] == 10
    assert budget["pair_equal"] and sum(budget["twin"]) == budget["total"]
    data = told["config"]["dataset"]
    per_step = data["batch_size"] * data["context"] if "context" in data else None
    assert budget["tokens"] == (per_step and budget["steps"] * per_step)
    assert sum(row["steps"] for row in told["stages"]) == (budget["steps"] if methods else 0)
    assert told["checks"] and all(check["passed"] for check in told["checks"])
    assert bool(told["layers"]) == bool(methods)


@every_run
def test_the_ledgers_agree_with_the_exported_model(name, run):
    told = record(run.directory)
    model = gossamer.load(run.directory / "export")
    parameters = list(model.parameters())
    size = told["size"]
    assert size["parameters"] == sum(p.numel() for p in parameters)
    assert size["nonzero_parameters"] == sum(int(p.count_nonzero()) for p in parameters)
    assert told["compute"]["macs_effective"] <= told["compute"]["macs_dense"]
    for row in told["layers"]:
        weight = model.get_submodule(row["name"]).weight
        assert row["shape"] == list(weight.shape)
        assert row["density"] == int(weight.count_nonzero()) / weight.numel()
    structured = name == "dsee, structured"
    assert (size["parameters"] < size["dense_parameters"]) == structured
    assert (told["compute"]["macs_effective"] < told["compute"]["macs_dense"]) == structured


@every_run
def test_the_quality_in_the_record_is_that_of_the_exported_model(name, run):
    torch.set_num_threads(1)
    made = plan.checked(read_config(run.directory))
    made.open()
    told = record(run.directory)["quality"]
    seen = made.task.evaluate(gossamer.load(run.directory / "export"), made.data, "test")
    assert seen == pytest.approx(told["compressed"], rel=1e-5)
    assert told["dense"].keys() == told["compressed"].keys()
    if name == "none":
        assert told["dense"] == told["compressed"]


@every_run
def test_speed_is_measured_for_both_models_at_batch_1_and_32(run):
    entries = record(run.directory)["speed"]
    assert [entry["workload"] for entry in entries] == ["batch 1", "batch 32"]
    for entry in entries:
        assert entry["threads"] == 1
        for side in ("dense", "compressed"):
            assert 0 < entry[side]["p50"] <= entry[side]["p95"]
            assert entry[side]["throughput"] > 0


@every_run
def test_the_metrics_share_one_step_axis_from_the_base_to_the_end(name, run):
    lines, told = metrics(run.directory), record(run.directory)
    first, total = told["budget"]["base"], told["budget"]["total"]
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    trained = [line["step"] for line in lines if "train/loss" in line]
    begin = 0 if name == "none" else first  # the base was trained for every run that needs it
    assert trained == list(range(begin + 1, total + 1))
    assert all(math.isfinite(line["train/loss"]) for line in lines if "train/loss" in line)
    assert all(a["time"] <= b["time"] for a, b in itertools.pairwise(lines))
    ends = [line for line in lines if "validation/accuracy" in line]
    if name != "none":
        assert [line["validation/loss"] for line in ends] == [
            row["quality_after"]["loss"] for row in told["stages"]
        ]


@every_run
def test_the_directory_explains_itself(name, run):
    config = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert "${" not in (run.directory / "config.yaml").read_text()
    assert yaml.safe_load((run.directory / "overrides.yaml").read_text()) == config["overrides"]
    assert set(config["overrides"]) == {*DOCSTRINGS, *RUNS[name]}
    assert digest(config) == config["digest"] == run.directory.parent.name
    environment = json.loads((run.directory / "environment.json").read_text())
    assert {"torch", "transformers", "gossamer"} <= environment["packages"].keys()
    assert {"commit", "dirty"} == json.loads((run.directory / "git.json").read_text()).keys()
    assert (run.directory / "git.diff").exists()
    assert not (run.directory / "state").exists()  # only needed to go on


@every_run
def test_every_artefact_is_where_the_record_says(run):
    seen = contents(run.directory)
    artefacts = record(run.directory)["artifacts"]
    assert {"export/model.safetensors", "export/gossamer.json"} <= {a["path"] for a in artefacts}
    for artefact in artefacts:
        assert (run.directory / artefact["path"]).stat().st_size == artefact["bytes"]
        assert seen[artefact["path"]][1] == artefact["sha256"]


@every_run
def test_the_command_ends_with_a_table_the_checks_and_the_two_paths(run):
    for words in ("test accuracy", "MACs", "latency p50, batch 1", "checks passed"):
        assert words in run.out
    assert f"{run.directory.name}/record.json" in run.out
    assert f"{run.directory.name}/export" in run.out


def test_the_same_command_again_says_already_done_and_touches_nothing(finished, shared):
    run = finished("compression=dsee")
    before = contents(run.directory)
    ended = command(*DOCSTRINGS, "compression=dsee", cwd=shared)
    assert ended.status == 0
    assert ended.out.startswith("already done: ") and "rerun=true" in ended.out
    assert "test accuracy" in ended.out
    assert contents(run.directory) == before


def test_rerun_repeats_a_run_and_finds_the_same_figures(finished, tmp_path):
    run = finished("compression=dsee")
    again = copied(run.directory, tmp_path)
    old = contents(again)
    ended = command(*DOCSTRINGS, "compression=dsee", "rerun=true", cwd=tmp_path)
    assert ended.status == 0 and "already done" not in ended.out, ended.err
    assert figures(again) == figures(run.directory)
    assert contents(again)["export/model.safetensors"][0] > old["export/model.safetensors"][0]
