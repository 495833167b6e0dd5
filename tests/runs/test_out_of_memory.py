"""What ran out of memory is told in one line, with the keys that the data set really has."""

import pytest
import torch

from gossamer.run import _out_of_memory


@pytest.mark.parametrize(
    ("dataset", "keys"),
    [
        ({"batch_size": 32, "max_length": 128}, "dataset.batch_size or dataset.max_length,"),
        ({"batch_size": 8, "context": 2048}, "dataset.batch_size or dataset.context,"),
        ({"batch_size": 128, "size": 224}, "dataset.batch_size or dataset.size,"),
        ({"batch_size": 128}, "dataset.batch_size,"),
    ],
)
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_the_keys_to_lower_are_those_of_the_data_set(error, dataset, keys):
    told = str(_out_of_memory(error, dataset))
    assert told.startswith("out of memory: ") and f"Lower {keys}" in told
    assert len(told.splitlines()) == 1


def test_another_error_is_none_of_memory():
    assert _out_of_memory(RuntimeError("size mismatch"), {"batch_size": 8}) is None
