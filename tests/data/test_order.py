"""The order of batches is a pure function of (seed, batch index)."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.data.order import OnePass, TrainingOrder, batches_per_epoch, loader


@given(
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 2**31),
    first=st.integers(0, 40),
    count=st.integers(0, 40),
)
def test_a_run_that_starts_at_batch_k_sees_what_the_uninterrupted_one_saw(
    rows, batch_size, seed, first, count
):
    whole = list(TrainingOrder(rows, batch_size, seed, 0, first + count))
    rest = list(TrainingOrder(rows, batch_size, seed, first, count))
    assert rest == whole[first:]
    assert len(rest) == count


@given(rows=st.integers(1, 60), batch_size=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_an_epoch_shows_no_row_twice_and_drops_only_the_partial_batch(rows, batch_size, seed):
    per_epoch = batches_per_epoch(rows, batch_size)
    epoch = [row for batch in TrainingOrder(rows, batch_size, seed, 0, per_epoch) for row in batch]
    assert len(set(epoch)) == len(epoch)
    assert rows - len(epoch) < batch_size


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = (next(iter(TrainingOrder(64, 64, 0, epoch, 1))) for epoch in (0, 1))
    other = next(iter(TrainingOrder(64, 64, 1, 0, 1)))
    assert first != second
    assert first != other
    assert sorted(first) == sorted(second) == list(range(64))


def test_one_pass_without_a_seed_is_fixed_and_goes_from_long_to_short():
    order = [row for batch in OnePass(torch.tensor([3, 9, 3, 1, 9]), 2) for row in batch]
    assert order == [1, 4, 0, 2, 3]


@given(rows=st.integers(1, 50), batch_size=st.integers(1, 9), seed=st.integers(0, 99) | st.none())
def test_one_pass_shows_every_row_once_and_can_be_repeated(rows, batch_size, seed):
    order = OnePass(torch.arange(rows) % 5, batch_size, seed)
    batches = list(order)
    assert batches == list(order)
    assert len(batches) == len(order)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))


class Squares(torch.utils.data.Dataset):
    def __getitem__(self, rows):
        return {"x": torch.tensor(rows) ** 2}


def test_reading_batches_takes_nothing_from_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    for _ in loader(Squares(), TrainingOrder(10, 3, 0, 0, 5), workers=0, seed=0):
        pass
    assert torch.equal(torch.rand(3), expected)


def test_worker_processes_give_the_same_batches_in_the_same_order():
    order = TrainingOrder(20, 4, 3, 2, 6)
    here = [batch["x"] for batch in loader(Squares(), order, workers=0, seed=3)]
    there = [batch["x"] for batch in loader(Squares(), order, workers=2, seed=3)]
    assert len(here) == len(there) == 6
    assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))
