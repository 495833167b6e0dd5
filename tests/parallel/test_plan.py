"""What several devices ask for, checked before anything is started."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gossamer import crew, plan
from gossamer.data.order import TrainingOrder
from tests.contract import table
from tests.data.corpora import Given, three
from tests.parallel.together import row


def problem(**changes) -> str:
    (line,) = plan.problems(row("none", **changes))
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"devices": 0}, "trainer.devices=0: at least 1"),
        ({"devices": 3}, "dataset.batch_size=8: is shared by 3 devices; type dataset.batch_size=6"),
        ({"accumulate": 9}, "trainer.accumulate=9: a device has 8 rows of a batch to share out"),
        ({"accumulate": 0}, "trainer.accumulate=0: a device has 8 rows of a batch to share out"),
        ({"strategy": "fsdp"}, "trainer.strategy=fsdp: shards over several devices"),
        (
            {"devices": 2, "strategy": "fsdp", "precision": "16-mixed"},
            "trainer.precision=16-mixed: not with trainer=fsdp; use bf16-mixed",
        ),
    ],
    ids=[
        "none",
        "a batch that cannot be shared",
        "nine parts",
        "no part",
        "fsdp alone",
        "fsdp in float16",
    ],
)
def test_what_does_not_fit_several_devices_is_one_line(changes, expected):
    assert problem(**changes).startswith(expected)


def test_a_training_split_smaller_than_its_batch_must_be_shared_too():
    made = row("none", devices=2)
    made.data.batch_size = 100
    assert plan.problems(made) == []  # 48 rows
    made.data.limit, made.data.splits = 47, {}
    (line,) = plan.problems(made)
    assert "one batch of 47 rows" in line and "type dataset.batch_size=46" in line


def test_a_batch_of_windows_is_full_however_few_the_documents_are():
    made = row("none", devices=2)
    made.data = Given(three(), limit=3, batch_size=8)
    assert plan.device_problems(made) == []
    assert plan._devices_line(made) == "2 (ddp), 4 of the 8 windows of a batch on each"
    assert plan._data_line(made.data.info) == "given: 3 train, 3 validation, 3 test documents"
    made.data.batch_size = 9
    assert plan.device_problems(made) == [
        "dataset.batch_size=9: is shared by 2 devices; type dataset.batch_size=8"
    ]


def test_more_devices_than_the_machine_has_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    made = row("none", devices=2, accelerator="gpu")
    assert (
        "this machine has 1 CUDA devices; type trainer.devices=1" in plan.device_problems(made)[0]
    )


def test_a_launcher_that_started_another_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert plan.device_problems(row("none", devices=2)) == []  # not a launcher's: no RANK
    monkeypatch.setenv("RANK", "0")
    assert not crew.enlisted() and "type trainer.devices=4" in problem(devices=2)
    monkeypatch.setenv("RANK", "3")
    assert crew.enlisted()


def test_the_plan_says_how_a_batch_is_shared():
    made = row("none", devices=2)
    assert plan._devices_line(made) == "2 (ddp), 4 of the 8 rows of a batch on each"
    model = nn.Linear(2**10, 2**10, bias=False, device="meta")
    whole = plan._memory_line(model, {}, made.training)
    half = plan._memory_line(model, {}, replace(made.training, strategy="fsdp"))
    assert whole.startswith("16 MiB on each device") and half.startswith("8 MiB on each device")


def test_the_ranks_batches_together_are_those_of_one_process():
    alone = list(TrainingOrder(40, 8, 3, 2, 9))
    shares = [list(TrainingOrder(40, 8, 3, 2, 9, (rank, 4))) for rank in range(4)]
    for batch, parts in zip(alone, zip(*shares, strict=True), strict=True):
        assert [len(part) for part in parts] == [2] * 4
        assert sorted(row for part in parts for row in part) == sorted(batch)


def test_every_row_of_the_contract_can_use_two_devices_or_says_why_not():
    for strategy in ("ddp", "fsdp"):
        for name in table.ROWS:
            for line in plan.problems(row(name, devices=2, strategy=strategy)):
                assert line.startswith("compression.") and "use trainer=ddp" in line
