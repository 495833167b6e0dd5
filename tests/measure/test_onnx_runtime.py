"""A deployed model is told of against the fastest runtime of the dense one, and all are named."""

import copy

import msgspec
import pytest
import torch

from gossamer.export.onnx import Onnx
from gossamer.measure import deployed, runtimes
from gossamer.measure.deployed import COMPILED, Files
from gossamer.measure.onnx_runtime import Session, runtime
from gossamer.measure.speed import RUNTIME, in_torch, interleaved
from gossamer.records import schema
from gossamer.records.table import honest, setting, speed_labels
from tests.export.vision import images, quantized, tiny


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    dense, small = tiny(depth=1), quantized(tiny(depth=1))
    x = {"x": images(2)}
    files = Files(Onnx().write(dense, x, folder / "a"), Onnx().write(small, x, folder / "b"))
    return dense, small, files


WORKLOADS = {f"batch {rows}": {"x": images(rows)} for rows in (1, 4)}


@pytest.fixture(scope="module")
def entries(pair):
    """Measured once; torch.compile's place is taken by another eager copy, which takes no time to
    be built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", copy.deepcopy)
        return runtimes.timed(*pair[:2], WORKLOADS, [], "cpu", files=pair[2])


def test_each_pair_of_contenders_has_an_entry_that_a_record_takes(entries):
    onnx = runtime()
    told = {(e["workload"], e["runtime"], e["dense_runtime"]) for e in entries}
    pairs = {
        *((onnx, None), (onnx, RUNTIME), (onnx, COMPILED)),
        *((RUNTIME, None), (RUNTIME, onnx), (RUNTIME, COMPILED)),
    }
    assert told == {(name, *each) for name in WORKLOADS for each in pairs}
    assert len(entries) == len(told)
    for entry in entries:
        msgspec.convert(entry, schema.Timed)
        assert entry["dtype"] == ("float32+int8" if entry["runtime"] == onnx else "float32")
        assert entry["dense"]["peak_memory_bytes"] > 0


def test_the_first_entry_is_the_fastest_against_the_fastest(entries):
    for name in WORKLOADS:
        mine = [entry for entry in entries if entry["workload"] == name]
        for side in ("dense", "compressed"):
            assert mine[0][side]["p50"] == min(entry[side]["p50"] for entry in mine)
        (note,) = mine[0]["notes"]
        assert note.startswith("the fastest dense runtime here: ")
        assert (mine[0]["dense_runtime"] or mine[0]["runtime"]) in note
        assert honest(mine) == mine[:1]


def test_the_honest_baseline_is_named_for_each_workload_where_it_differs():
    assert deployed._named({"batch 1": "a", "batch 8": "a"}) == "a (batch 1, batch 8)"
    mixed = {"batch 1": "a", "batch 8": "b", "batch 32": "b"}
    assert deployed._named(mixed) == "a (batch 1), b (batch 8, batch 32)"


def test_labels_tell_the_entries_apart(entries):
    labels = speed_labels(entries)
    assert len(set(labels)) == len(labels)
    other = next(e for e in entries if e["dense_runtime"] == RUNTIME)
    assert f"against {RUNTIME}" in setting(other)
    assert "against" not in setting(next(e for e in entries if e["dense_runtime"] is None))


def test_without_a_compiler_the_notes_say_so(pair, monkeypatch):
    monkeypatch.setattr(deployed, "no_compiler", lambda: "there is no C++ compiler")
    sides, told = deployed.contenders(*pair)
    assert [each.runtime for each in sides["dense"]] == [RUNTIME, runtime()]
    assert told == ["torch.compile was not measured: there is no C++ compiler"]


def test_a_compiler_that_is_not_there_is_noticed(monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    assert "no C++ compiler" in deployed.no_compiler()


def test_a_session_is_timed_like_a_model(pair):
    dense, _, files = pair
    calls = {"torch": in_torch(dense).call, "onnx": Session(files.dense)}
    timings = interleaved(calls, {"x": images(3)}, device="cpu", repeats=6)
    assert {len(timing.seconds) for timing in timings.values()} == {6}
    assert {timing.rows for timing in timings.values()} == {3}


def test_a_session_takes_as_many_threads_as_torch(pair):
    session = Session(pair[2].dense)
    assert session.session.get_session_options().intra_op_num_threads == torch.get_num_threads()
    session.freed(x=images(1))  # an option that this version does not know would be an error


@pytest.mark.slow
def test_torch_compile_is_measured_where_there_is_a_compiler(pair):
    if reason := deployed.no_compiler():
        pytest.skip(reason)
    entries = deployed.deployed(*pair, {"batch 1": {"x": images(1)}}, repeats=6)
    assert any(entry["dense_runtime"] == COMPILED for entry in entries)
