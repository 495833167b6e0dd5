"""What measuring returns is what the record's schema takes."""

import torch
from safetensors.torch import save_file
from torch import nn

from gossamer.contract import Fact
from gossamer.measure.compute import compute
from gossamer.measure.size import size
from gossamer.measure.speed import speed
from gossamer.records.schema import problem
from tests.records.examples import done


def test_the_ledgers_fit_the_record(tmp_path):
    dense, model = nn.Linear(4, 4), nn.Linear(4, 2)
    save_file(dense.state_dict(), tmp_path / "model.safetensors")
    inputs = {"input": torch.ones(1, 4)}
    ledgers = {
        "size": size(
            model,
            dense,
            [Fact("", (2, 4))],
            trainable=1,
            directory=tmp_path,
            dense_directory=tmp_path,
        ),
        "compute": compute(dense, model, inputs, "batch 1"),
        "speed": speed(dense, model, {"batch 1": inputs}, repeats=5),
    }
    assert problem({**done(), **ledgers}) is None
