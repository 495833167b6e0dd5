"""An ONNX file as something that is called, timed and weighed like a model, on the CPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PROVIDER = "CPUExecutionProvider"
INTEGER = frozenset(  # what ONNX Runtime makes of a product between quantisers
    {"MatMulIntegerToFloat", "MatMulInteger", "QLinearMatMul", "QGemm", "QLinearConv"}
)


class Session:
    """ONNX Runtime on one file, in as many threads as torch has.

    Its threads stop waiting for work when a call ends: in an interleaved run they would take the
    cores from whoever has the next turn.

    Args:
        optimized: where to leave the graph as it is run, for `operators`; None: nowhere
    """

    def __init__(self, path: Path, *, optimized: Path | None = None) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)  # errors; one warns of `optimized`
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        self.session = onnxruntime.InferenceSession(path, options, providers=[PROVIDER])

        # what layers of an INT8 model are stored and multiplied in, beside the float ones
        self.dtype = "float32+int8" if operators(path)["QuantizeLinear"] else "float32"

    def __call__(self, **inputs: Tensor) -> Tensor:
        return torch.from_numpy(self._run(inputs, None))

    def freed(self, **inputs: Tensor) -> None:
        """One call that gives the memory between layers back, which is kept for the next else."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._run(inputs, options)

    def _run(self, inputs: dict[str, Tensor], options: Any) -> Any:
        given = {name: value.numpy() for name, value in inputs.items()}
        return self.session.run(None, given, options)[0]


def runtime() -> str:
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def operators(path: Path) -> Counter[str]:
    """How often each operator stands in an ONNX file."""
    import onnx

    return Counter(node.op_type for node in onnx.load(path).graph.node)


def integer_products(path: Path) -> int:
    """How many products of an `optimized` graph are of integers."""
    return sum(count for name, count in operators(path).items() if name in INTEGER)
