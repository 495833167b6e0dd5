"""What a model said about each row of the test split: `predictions.safetensors`, beside the record.

prediction, label, loss: (rows,), in the data set's own order. A language model's rows are windows,
with loss (nats per scored token) and tokens (how many were scored). The file's metadata has the
data's fingerprint, so that two models are only compared row by row if they saw the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.errors import ResumeError

if TYPE_CHECKING:
    from torch import Tensor

FILE = "predictions.safetensors"
KINDS = (("prediction", "label", "loss"), ("tokens", "loss"))  # what a file has of each row


def write(path: str | Path, rows: Mapping[str, Tensor], data: str) -> None:
    """Write values per row, each (rows,); `data` is the fingerprint of what the rows are of."""
    from safetensors.torch import save

    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(save(dict(rows), metadata={"data": data}))
    temporary.replace(path)


def truth(rows: Mapping[str, Any]) -> Any:
    """(rows,) What is the same for every model that saw the rows: labels, or numbers of tokens."""
    return rows["label"] if "label" in rows else rows["tokens"]


def read(path: str | Path) -> tuple[dict[str, Any], str]:
    """(numpy arrays by name, each (rows,); the data's fingerprint). Raises ResumeError, which names
    the file, if it is none or any of a kind's names is missing, empty or of another length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            data = (file.metadata() or {}).get("data", "")
            kind = KINDS["tokens" in file.keys()]  # noqa: SIM118  safetensors has no `in`
            rows = {name: file.get_tensor(name) for name in kind}
    except (OSError, SafetensorError) as error:
        raise ResumeError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    count = truth(rows).size
    if not count or any(values.shape != (count,) for values in rows.values()):
        shapes = ", ".join(f"{name} {values.shape}" for name, values in rows.items())
        raise ResumeError(f"{path}: no values per test row: {shapes}")
    return rows, data
