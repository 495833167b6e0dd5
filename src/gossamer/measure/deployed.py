"""A deployed model on the CPU: ONNX Runtime against the best that the dense model can be run in.

An INT8 model in a tuned runtime is easily faster than its dense twin in an untuned one. So every
way to run either model takes its turn in one interleaved run: the dense one in torch as it is,
compiled by torch.compile, and in ONNX Runtime; the compressed one in torch and in ONNX Runtime.
There is an entry for each pair, that of the fastest with the fastest first, and its dense side is
named: the honest baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from gossamer.measure import memory
from gossamer.measure.onnx_runtime import Session, runtime
from gossamer.measure.speed import (
    Contender,
    in_torch,
    interleaved,
    paired_ratio,
    setting,
    told,
)

COMPILED = f"torch {torch.__version__} compiled"
WARMUP = 3


class Files(NamedTuple):
    """ONNX files of the two sides."""

    dense: Path
    compressed: Path


def deployed(
    dense: nn.Module,
    compressed: nn.Module,
    files: Files,
    workloads: Mapping[str, Mapping[str, Any]],
    *,
    notes: Sequence[str] = (),
    repeats: int = 30,
    seconds: float = 5.0,
) -> list[dict[str, Any]]:
    """The record's `speed` on the CPU: per workload one entry for each pair of contenders, the
    fastest pair first. `seconds`: of a workload's timed turns, all contenders together."""
    sides, left_out = contenders(dense.cpu().eval(), compressed.cpu().eval(), files)
    entries: list[dict[str, Any]] = []
    fastest: dict[str, str] = {}  # workload -> dense runtime
    for name, inputs in workloads.items():
        every = {(side, n): each for side, list_ in sides.items() for n, each in enumerate(list_)}
        calls = {str(key): each.call for key, each in every.items()}
        taken = interleaved(
            calls, inputs, device="cpu", warmup=WARMUP, repeats=repeats, seconds=seconds
        )
        timings = {key: taken[str(key)] for key in every}
        figures = {key: told(each, inputs, timings[key]) for key, each in every.items()}
        order = {
            side: sorted((key for key in every if key[0] == side), key=lambda k: figures[k]["p50"])
            for side in sides
        }
        fastest[name] = every[order["dense"][0]].runtime
        for after in order["compressed"]:
            for before in order["dense"]:
                other = every[before].runtime
                entries.append(
                    {
                        **setting(name, torch.device("cpu"), WARMUP, timings[before]),
                        "dtype": every[after].dtype,
                        "runtime": every[after].runtime,
                        "dense_runtime": None if other == every[after].runtime else other,
                        "notes": [*left_out, *notes],
                        "speed_up": paired_ratio(timings[before], timings[after]),
                        "dense": figures[before],
                        "compressed": figures[after],
                    }
                )
    baseline = f"the fastest dense runtime here: {_named(fastest)}"
    return [{**entry, "notes": [baseline, *entry["notes"]]} for entry in entries]


def _named(fastest: Mapping[str, str]) -> str:
    """ "torch 2.15 eager (batch 1), ONNX Runtime 1.32 (batch 8, batch 32)"."""
    of = {each: [name for name in fastest if fastest[name] == each] for each in fastest.values()}
    return ", ".join(f"{each} ({', '.join(names)})" for each, names in of.items())


def contenders(
    dense: nn.Module, compressed: nn.Module, files: Files
) -> tuple[dict[str, list[Contender]], list[str]]:
    """What takes turns on each side, and who does not, with the reason."""
    sides = {
        "dense": [in_torch(dense), in_onnx(files.dense)],
        "compressed": [in_torch(compressed), in_onnx(files.compressed)],
    }
    if reason := no_compiler():
        return sides, [f"torch.compile was not measured: {reason}"]
    sides["dense"].append(in_torch(dense, COMPILED, torch.compile(dense)))
    return sides, []


def in_onnx(path: Path) -> Contender:
    """ONNX Runtime on a file. Its peak memory is the file's bytes and what a pass takes."""
    session = Session(path)

    def peak(inputs: Mapping[str, Any]) -> int | None:
        session.freed(**inputs)
        return memory.peak_on_cpu(path.stat().st_size, inputs, session)[0]

    return Contender(session, runtime(), session.dtype, peak)


def no_compiler() -> str | None:
    """Why torch.compile cannot work on a CPU; None: there is a C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "there is no C++ compiler; install g++ or clang++"
    return None
