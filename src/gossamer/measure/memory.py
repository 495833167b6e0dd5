"""Peak memory of one forward pass, really observed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from gossamer.quantization.packed import Packed

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): sets VmHWM to the current resident set


def model_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, each storage once, and of the weights that packed layers
    have unpacked beside them; also on the meta device."""
    layers = (module for module in model.modules() if isinstance(module, Packed))
    unpacked = [weight for layer in layers if (weight := layer.unpacked()) is not None]
    plain = (p for t in (*model.parameters(), *model.buffers(), *unpacked) for p in _plain(t))
    storages = [tensor.untyped_storage() for tensor in plain]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """What a tensor is made of: itself, or the parts of one that is packed (2:4, sharded)."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _plain(getattr(tensor, name))


def peak(
    model: nn.Module, inputs: Mapping[str, Any], call: Callable[..., Any] | None = None
) -> tuple[int | None, str | None]:
    """Bytes of the model plus the most that one pass `model(**inputs)` holds beyond it, or None and
    why not. Inputs must be on the model's device; run the model once before (libraries allocate
    workspaces at first use). `call`: what runs the model, if it is not called itself.

    CUDA: the allocator's peak. Linux on the CPU: the rise of the process's peak resident set over
    the pass, after freed pages were given back; other threads that allocate meanwhile would count
    too, and pages that the pass can reuse from earlier ones are not seen. Elsewhere: None."""
    device = next(model.parameters()).device
    call = model if call is None else call  # a compiled module has no truth value
    if device.type == "cuda":
        return model_bytes(model) + _cuda_rise(call, inputs, device), None
    if device.type != "cpu":
        return None, f"no way to read the peak memory of a {device.type} device"
    return peak_on_cpu(model_bytes(model), inputs, call)


def peak_on_cpu(
    held: int, inputs: Mapping[str, Any], call: Callable[..., Any]
) -> tuple[int | None, str | None]:
    """As `peak`, of what holds `held` bytes when it does not run."""
    if not sys.platform.startswith("linux"):
        return None, f"no way to reset the peak resident set on {sys.platform}"
    try:
        return held + _resident_rise(call, inputs), None
    except OSError as error:
        return None, f"the kernel does not let this process reset its peak memory: {error}"


def _cuda_rise(model: Callable[..., Any], inputs: Mapping[str, Any], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with torch.inference_mode():
        model(**inputs)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _resident_rise(model: Callable[..., Any], inputs: Mapping[str, Any]) -> int:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)  # memory that the allocator keeps for later would hide what the pass takes
    CLEAR.write_text(RESET_PEAK)
    before = _kibibytes("VmRSS")
    with torch.inference_mode():
        model(**inputs)
    return max(0, _kibibytes("VmHWM") - before) * 1024


def _kibibytes(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"{STATUS} has no {field}")
