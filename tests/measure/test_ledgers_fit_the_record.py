"""What measuring returns is what the record's schema takes."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gossamer.contract import Fact
from gossamer.measure.compute import compute
from gossamer.measure.size import size
from gossamer.measure.speed import speed
from gossamer.records.schema import problem
from tests.records.examples import done


@pytest.mark.parametrize("quantised", [False, True])
def test_the_ledgers_fit_the_record(tmp_path, quantised):
    dense, model = nn.Linear(4, 4), nn.Linear(4, 2)
    save_file(dense.state_dict(), tmp_path / "model.safetensors")
    inputs = {"input": torch.ones(1, 4)}
    facts = [Fact("", (2, 4), "2:4", operands=(8, 8))] if quantised else [Fact("", (2, 4))]
    ledgers = {
        "size": size(
            model,
            dense,
            facts,
            trainable=1,
            directory=tmp_path,
            dense_directory=tmp_path,
        ),
        "compute": compute(dense, model, inputs, "batch 1", facts),
        "speed": speed(dense, model, {"batch 1": inputs}, repeats=5),
    }
    assert (ledgers["size"]["format_bytes"] is not None) == quantised
    assert (ledgers["compute"]["bit_operations"] is not None) == quantised
    assert problem({**done(), **ledgers}) is None
