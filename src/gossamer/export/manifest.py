"""What a finished model differs in from the one its builder makes, as plain JSON, and back again.

`differences` walks a finished model beside a freshly built dense one and writes down, per path,

    modules     what stands there instead: {"class": dotted path, "arguments": {…}}, null if removed
    attributes  plain values that changed (num_attention_heads, in_features, a tuple of sizes)
    notes       plain values that the fresh module does not have: nothing it computes reads them
    tensors     parameters and buffers of another shape, type or kind, or null if removed

and `apply` repeats these edits on another freshly built model. Both work on the meta device: shapes
only. A replaced module is compared with what its constructor makes, so it may change shape later.
A class with a method `over(old, **arguments)` is constructed by that: such a module takes over the
parts of the one in whose place it stands (`surgery.InPlace`).
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import ConfigError, ResumeError
from gossamer.targets import allowed, locate

UNTOLD = frozenset({"training", "name_or_path", "arguments"})  # no part of the function


def differences(model: nn.Module, fresh: nn.Module) -> dict[str, dict[str, Any]]:
    """The edits that turn `fresh` into `model`'s shapes, keyed by module or tensor path.

    Carries the edits out on `fresh` (on the meta device) while it goes. Raises ConfigError for a
    module of another class that does not say how it is constructed (`arguments: dict`), or whose
    class could not be located again."""
    if type(model) is not type(fresh):
        kinds = f"a {_path(type(model))}, its builder makes a {_path(type(fresh))}"
        raise ConfigError(
            f"export: the model is {kinds}; "
            "methods may replace modules inside a model, not the model"
        )
    changes: dict[str, dict[str, Any]] = {
        kind: {} for kind in ("modules", "attributes", "notes", "tensors")
    }
    _compare(model, fresh, "", changes)
    return changes


def apply(model: nn.Module, changes: dict[str, dict[str, Any]]) -> None:
    """Carry out the edits of `differences` on a freshly built `model` (meta device), in place.

    Raises ResumeError if an edit names a module that the builder no longer makes."""
    for path, node in changes["modules"].items():
        parent, name = _parent(model, path)
        if node is None:
            del parent._modules[name]
        else:
            parent._modules[name] = _construct(node, path, parent._modules.get(name))
    for kind in ("attributes", "notes"):
        for path, values in changes[kind].items():
            for name, value in values.items():
                setattr(_module(model, path), name, _thaw(value))
    for path, spec in changes["tensors"].items():
        parent, name = _parent(model, path)
        _place(parent, name, spec)


def unsaved(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that the state dict leaves out but the function needs: non-persistent buffers and
    tensors kept as plain attributes (position ids, rotary tables), by path."""
    found = {}
    for path, module in model.named_modules():
        hidden = {name: module._buffers.get(name) for name in module._non_persistent_buffers_set}
        plain = {name: v for name, v in vars(module).items() if isinstance(v, Tensor)}
        for name, tensor in (hidden | plain).items():
            if tensor is not None:
                found[_join(path, name)] = tensor.detach()
    return found


def restore_unsaved(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what `unsaved` found."""
    for path, tensor in tensors.items():
        parent, name = _parent(model, path)
        if name in parent._buffers:
            parent._buffers[name] = tensor
        else:
            setattr(parent, name, tensor)


def _compare(module: nn.Module, fresh: nn.Module, path: str, changes: dict[str, Any]) -> None:
    old, new = _attributes(fresh), _attributes(module)
    if changed := {n: v for n, v in new.items() if n in old and repr(old[n]) != repr(v)}:
        changes["attributes"][path] = changed
    if notes := {n: v for n, v in new.items() if n not in old}:
        changes["notes"][path] = notes
    old_tensors, new_tensors = _tensors(fresh), _tensors(module)
    for name in old_tensors.keys() | new_tensors.keys():
        spec = new_tensors.get(name)
        if spec != old_tensors.get(name):
            changes["tensors"][_join(path, name)] = spec
            _place(fresh, name, spec)
    for name in [n for n, c in fresh._modules.items() if c and not module._modules.get(n)]:
        changes["modules"][_join(path, name)] = None
        del fresh._modules[name]
    for name, child in module._modules.items():
        if child is None:
            continue
        twin, place = fresh._modules.get(name), _join(path, name)
        if twin is None or type(twin) is not type(child):
            node = {"class": _path(type(child)), "arguments": _arguments(child, place)}
            changes["modules"][place] = node
            twin = fresh._modules[name] = _construct(node, place, twin)
        _compare(child, twin, place, changes)


def _arguments(module: nn.Module, path: str) -> dict[str, Any]:
    """The constructor arguments of a replaced module, as plain JSON values."""
    kind = f"module {path!r} is a {_path(type(module))}"
    if type(module) is nn.Identity:
        return {}
    if type(module) is nn.Linear:
        shape = {"in_features": module.in_features, "out_features": module.out_features}
        return {**shape, "bias": module.bias is not None}
    arguments = getattr(module, "arguments", None)
    if not isinstance(arguments, dict):
        raise ConfigError(
            f"export: {kind}, which does not say how it is constructed; give the class an "
            "attribute `arguments: dict` of plain values, or put a plain module back in `finalize`"
        )
    if not allowed(_path(type(module))):
        raise ConfigError(
            f"export: {kind}, which could not be loaded again; set GOSSAMER_ALLOW_TARGETS="
            f"{type(module).__module__.split('.')[0]}"
        )
    try:
        return json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"export: {kind}; its `arguments` are not plain: {error}") from error


def _construct(node: dict[str, Any], path: str, old: nn.Module | None) -> nn.Module:
    cls = locate(node["class"], f"modules.{path}.class")
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ConfigError(f"modules.{path}.class: {node['class']!r} is not a torch module")
    with torch.device("meta"):
        if hasattr(cls, "over"):
            return cls.over(old, **node["arguments"])
        return cls(**node["arguments"])


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {
        name: _freeze(value)
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in UNTOLD and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def _freeze(value: Any) -> Any:
    """JSON has no tuples, and a module that was given one may need one back."""
    if isinstance(value, tuple):
        return {"tuple": [_freeze(item) for item in value]}
    return [_freeze(item) for item in value] if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(_thaw(item) for item in value["tuple"])
    return [_thaw(item) for item in value] if isinstance(value, list) else value


def _tensors(module: nn.Module) -> dict[str, dict[str, Any] | None]:
    def spec(kind: str, tensor: Tensor) -> dict[str, Any]:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return {"kind": kind, "shape": list(tensor.shape), "dtype": dtype}

    found: dict[str, dict[str, Any] | None]
    found = {n: spec("parameter", p) for n, p in module._parameters.items() if p is not None}
    for name, buffer in module._buffers.items():
        if buffer is not None:
            hidden = name in module._non_persistent_buffers_set
            found[name] = spec("unsaved buffer" if hidden else "buffer", buffer)
    return found


def _place(module: nn.Module, name: str, spec: dict[str, Any] | None) -> None:
    if spec is None or not _same_kind(module, name, spec):
        module._parameters.pop(name, None)
        module._buffers.pop(name, None)
        module._non_persistent_buffers_set.discard(name)
    if spec is None:
        module.register_parameter(name, None)
        return
    dtype = getattr(torch, spec["dtype"])
    tensor = torch.empty(spec["shape"], dtype=dtype, device="meta")
    if spec["kind"] == "parameter":
        module._parameters[name] = nn.Parameter(tensor, requires_grad=dtype.is_floating_point)
    else:
        module.register_buffer(name, tensor, persistent=spec["kind"] == "buffer")


def _same_kind(module: nn.Module, name: str, spec: dict[str, Any]) -> bool:
    return name in (module._parameters if spec["kind"] == "parameter" else module._buffers)


def _module(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise ResumeError(
            f"the exported model changes module {path!r}, which its builder no longer makes"
        ) from error


def _parent(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return _module(model, parent), name


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
