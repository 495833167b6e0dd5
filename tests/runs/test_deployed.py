"""A run with export=onnx: the file is an artifact, checked, and timed in ONNX Runtime."""

import hashlib

import pytest

from gossamer import load
from gossamer.records.table import honest
from tests.runs.commands import contents, copied, gossamer, record

PTQ = ("compression=ptq", "compression.ptq.samples=60", "export=onnx")


@pytest.fixture(autouse=True)
def without_a_compiler(monkeypatch):
    """torch.compile takes longer than the rest of the run."""
    monkeypatch.setenv("CXX", "/nonexistent")


def test_the_file_is_an_artifact_that_was_checked_and_timed(finished_vision):
    run = finished_vision(*PTQ)
    told = record(run.directory)
    (artifact,) = (each for each in told["artifacts"] if each["path"] == "export/model.onnx")
    stored = (run.directory / "export" / "model.onnx").read_bytes()
    assert artifact["sha256"] == hashlib.sha256(stored).hexdigest()
    checks = {check["name"]: check for check in told["checks"]}
    assert checks["ONNX holds the exported integers"]["passed"]
    assert "largest difference" in checks["ONNX agrees with torch"]["figure"]
    assert {entry["workload"] for entry in told["speed"]} == {"batch 1", "batch 8", "batch 32"}
    assert len(told["speed"]) == 3 * 2 * 2  # torch and ONNX Runtime, on both sides
    assert any("there is no C++ compiler" in note for note in told["speed"][0]["notes"])
    assert len(honest(told["speed"])) == 3 and run.out.count("latency p50") == 3
    assert "the fastest dense runtime here: " in run.out
    assert load(run.directory / "export") is not None  # the other files are what they were


def test_bench_measures_it_again_and_leaves_the_export_as_it_was(finished_vision, tmp_path):
    run = copied(finished_vision(*PTQ).directory, tmp_path)
    before, count = contents(run / "export"), len(record(run)["speed"])
    ended = gossamer("bench", str(run), "--batch", "2", cwd=tmp_path)
    assert ended.status == 0 and not ended.complaints, ended.err
    assert contents(run / "export") == before
    assert len(record(run)["speed"]) == count + 4


def test_int4_is_measured_in_torch_and_said_to_be_simulated(finished_vision):
    run = finished_vision(*PTQ, "compression.ptq.bits=4")
    assert not (run.directory / "export" / "model.onnx").exists()
    reasons = [entry.get("skipped") for entry in record(run.directory)["speed"]]
    assert reasons[:3] == [None] * 3
    assert len(reasons) == 6 and all("simulated: no runtime has INT4" in r for r in reasons[3:])


def test_text_is_refused_in_one_line(shared):
    ended = gossamer("plan", "dataset=docstrings", "model=bert_tiny", "export=onnx", cwd=shared)
    assert ended.status == 2
    assert ended.complaints == [
        "export=onnx: only image models are written as ONNX, and docstrings is text; "
        "type export=default"
    ]
