"""Whole runs of a vision transformer on the embedded digits: what each method leaves, and that the
ONNX file is what the record says."""

import pytest
import torch

import gossamer
from gossamer import plan
from gossamer.models.parts import operations
from gossamer.quantization.packed import Packed
from gossamer.records import record as records
from gossamer.run import read_config
from gossamer.sparsity.patterns import parse
from tests.runs.commands import gossamer as command
from tests.runs.commands import record

SAMPLES = "compression.{}.samples=16"
GPUSQ = ("compression=gpusq", SAMPLES.format("gpusq"), "compression.gpusq.quantize_lr=1e-3")
RUNS = {
    "none": ("compression=none",),
    "nm_prune": ("compression=nm_prune",),
    "ptq": ("compression=ptq", SAMPLES.format("ptq")),
    "qat": ("compression=qat", SAMPLES.format("qat")),
    "halves": ("compression=[nm_prune,qat]", SAMPLES.format("qat")),
    "gpusq": (*GPUSQ, "export=onnx"),
    "gpusq INT4": (*GPUSQ, "compression.gpusq.bits=4", "export=onnx"),
    "unsupervised": (*GPUSQ, "compression.gpusq.hard_target=teacher"),
}
GPUSQ_STAGES = ["gpusq.prune", "gpusq.sparse", "gpusq.calibrate", "gpusq.quantize"]
STAGES = {
    "none": [],
    "nm_prune": ["nm_prune.prune", "nm_prune.train"],
    "ptq": ["ptq.calibrate"],
    "qat": ["qat.calibrate", "qat.train"],
    "halves": ["nm_prune.prune", "nm_prune.train", "qat.calibrate", "qat.train"],
    "gpusq": GPUSQ_STAGES,
    "gpusq INT4": GPUSQ_STAGES,
    "unsupervised": GPUSQ_STAGES,
}
every_run = pytest.mark.parametrize("name", RUNS)
PACKED = {"ptq": 8, "qat": 8, "halves": 8, "gpusq": 8, "gpusq INT4": 4, "unsupervised": 8}
SPARSE = {
    "nm_prune": "2:4",
    "halves": "2:4",
    "gpusq": "2:4",
    "gpusq INT4": "pairwise:4:8",
    "unsupervised": "2:4",
}


@pytest.fixture
def run(name, finished_vision):
    return finished_vision(*RUNS[name])


@every_run
def test_a_run_leaves_a_valid_record_of_what_it_did(name, run):
    told = record(run.directory)
    assert records.problems(told) == [] and told["status"] == "done"
    assert told["choices"]["task"] == "image_classification"
    assert [row["name"] for row in told["stages"]] == STAGES[name]
    assert told["quality"]["primary"] == "accuracy"
    assert told["quality"]["compressed"].keys() == {"accuracy", "top5", "ece", "loss"}
    assert told["budget"]["unspent"] == (6 if name == "ptq" else 0)
    assert all(check["passed"] for check in told["checks"])
    workloads = {entry["workload"] for entry in told["speed"]}
    assert workloads == {"batch 1", "batch 8", "batch 32"}


@every_run
def test_the_quality_in_the_record_is_that_of_the_exported_model(name, run):
    torch.set_num_threads(1)
    made = plan.checked(read_config(run.directory))
    made.open()
    seen = made.task.evaluate(gossamer.load(run.directory / "export"), made.data, "test")
    assert seen == pytest.approx(record(run.directory)["quality"]["compressed"], rel=1e-5)


@pytest.mark.parametrize("name", SPARSE)
def test_the_pattern_holds_in_the_exported_file(name, run):
    model = gossamer.load(run.directory / "export")
    rows = {row["name"]: row for row in record(run.directory)["layers"]}
    pruned = operations(model, ["qkv", "attention_output", "up", "down", "patch_embedding"])
    assert len(pruned) == 9
    for path, layer in pruned.items():
        assert parse(SPARSE[name]).holds(layer.weight.flatten(1)), path
        if name != "halves":  # its second method was responsible last
            assert rows[path]["pattern"] == SPARSE[name]
    assert rows["head"]["pattern"] == "dense"


@pytest.mark.parametrize("name", PACKED)
def test_integers_are_small_on_disk_and_counted_by_the_formats_rules_beside(name, run):
    told = record(run.directory)
    model = gossamer.load(run.directory / "export")
    assert all(isinstance(layer, Packed) for layer in operations(model).values())
    size, bits = told["size"], PACKED[name]
    assert all(row["operands"] == [bits, bits] for row in told["layers"])
    assert size["checkpoint_bytes"] < size["dense_checkpoint_bytes"] / 2
    assert size["dense_format_bytes"] == 4 * size["dense_parameters"]
    assert size["format_bytes"] < size["checkpoint_bytes"]
    stored = [layer.state_dict() for layer in operations(model).values()]
    weights = sum(torch.Size(layer.shape).numel() for layer in operations(model).values())
    taken = sum(
        8 * t.numel() * t.element_size() for s in stored for k, t in s.items() if k != "bias"
    )
    assert size["bits_per_weight"] == pytest.approx(taken / weights)
    compute = told["compute"]
    assert compute["bit_operations"] < compute["bit_operations_dense"]
    for line in ("storage by format, MB", "bit operations, theoretical", "on disk, MB"):
        assert line in run.out


def test_pruned_in_floats_is_no_smaller_on_disk_and_that_is_said(finished_vision):
    told = record(finished_vision(*RUNS["nm_prune"]).directory)
    size = told["size"]
    assert size["checkpoint_bytes"] == pytest.approx(size["dense_checkpoint_bytes"], rel=0.01)
    notes = {note for entry in told["speed"] for note in entry["notes"]}
    assert "2:4: no CPU kernel skips the zeros; its products are dense" in notes


def test_int8_runs_in_onnx_runtime_and_the_fastest_dense_runtime_is_named(finished_vision):
    done = finished_vision(*RUNS["gpusq"])
    told = record(done.directory)
    names = {check["name"] for check in told["checks"]}
    assert {"ONNX agrees with torch", "ONNX holds the exported integers"} <= names
    assert any(a["path"].endswith("model.onnx") for a in told["artifacts"])
    timed = [entry for entry in told["speed"] if "onnx" in entry.get("runtime", "").lower()]
    assert {entry["workload"] for entry in timed} == {"batch 1", "batch 8", "batch 32"}
    assert len({entry["dense_runtime"] for entry in timed}) >= 2
    assert all(any("fastest dense runtime" in note for note in e["notes"]) for e in timed)


def test_int4_has_no_onnx_file_and_the_reason_is_told(finished_vision):
    done = finished_vision(*RUNS["gpusq INT4"])
    told = record(done.directory)
    assert not any(a["path"].endswith(".onnx") for a in told["artifacts"])
    reasons = [entry["skipped"] for entry in told["speed"] if "skipped" in entry]
    assert reasons and all("INT4" in reason and "simulated" in reason for reason in reasons)


@pytest.mark.parametrize(("name", "word"), [("ptq", "INT8: its products"), ("qat", "export=onnx")])
def test_torchs_own_times_of_integers_are_said_to_be_those_of_floats(name, word, run):
    notes = [note for entry in record(run.directory)["speed"] for note in entry["notes"]]
    assert any(word in note for note in notes) and word in run.out


def test_the_figures_of_both_trained_stages_are_in_the_record(finished_vision):
    told = record(finished_vision(*RUNS["gpusq"]).directory)
    sparse, on_grid = (told["stages"][place]["figures"] for place in (1, 3))
    assert sparse.keys() == {"feature loss 0", "feature loss 1"}
    assert on_grid.keys() == {"factor 0", "factor 1"}
    assert sum(on_grid.values()) == pytest.approx(2)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("compression=gpusq", "compression.gpusq.bits=6"), "compression.gpusq: bits=6"),
        (("compression=gpusq", "dataset=docstrings"), "model: takes image"),
        (("compression=[qat,nm_prune]",), "would destroy the quantized weights"),
        (("model.patch=3",), "dataset.size"),
        (("export=onnx", "model=bert_tiny", "dataset=docstrings"), "export"),
    ],
)
def test_what_cannot_work_is_one_line_and_status_2(words, key, tmp_path):
    ended = command(
        "plan", "model=vit_tiny", "dataset=digits", "dataset.limit=60", *words, cwd=tmp_path
    )
    assert ended.status == 2 and key in ended.err, ended.err
    assert "Traceback" not in ended.err
