"""Windows over a token stream: which tokens they hold, and which of them are scored."""

import pickle

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.data.packing import IGNORED, evaluation_windows, training_windows

EOS = 7


class Numbers:
    """A stream whose token at place i is 1000 + i."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert index.min() >= 0 and index.max() < self.count
        return index.astype(np.int64) + 1000


@st.composite
def shapes(draw):
    length, context = draw(st.integers(2, 90)), draw(st.integers(2, 24))
    return length, context, draw(st.integers(1, context))


@given(shapes())
def test_what_is_scored_is_what_a_walk_over_the_stream_finds(shape):
    length, context, stride = shape
    windows = evaluation_windows(Numbers(length), context, stride, EOS)
    batch = windows[list(range(len(windows)))]
    scored: set[int] = set()
    expected = []
    for start in range(0, length, stride):  # every window there could be, by brute force
        held = range(start, min(start + context, length))
        new = [place for place in held if place not in scored]
        scored.update(held)
        if [place for place in new if place != start]:  # a window's first token is not predicted
            expected.append((start, held, new))
    assert len(windows) == len(expected)
    for row, (start, held, new) in enumerate(expected):
        ids, labels = batch["input_ids"][row].tolist(), batch["labels"][row].tolist()
        assert ids == [1000 + i if i in held else EOS for i in range(start, start + context)]
        assert labels == [1000 + i if i in new else IGNORED for i in range(start, start + context)]


@given(shapes())
def test_every_token_is_predicted_once_but_those_that_begin_a_stream_or_lone_windows(shape):
    length, context, stride = shape
    windows = evaluation_windows(Numbers(length), context, stride, EOS)
    labels = windows[list(range(len(windows)))]["labels"][:, 1:]  # the loss's shift
    predicted = sorted((labels[labels != IGNORED] - 1000).tolist())
    first = range(0, length, stride) if stride == context else [0]
    assert predicted == [place for place in range(length) if place not in first]


@given(length=st.integers(1, 200), context=st.integers(2, 24))
def test_training_windows_hold_every_token_once_but_the_rest(length, context):
    windows = training_windows(Numbers(length), context, EOS)
    assert len(windows) == length // context
    if len(windows):
        batch = windows[list(range(len(windows)))]
        assert batch["input_ids"].flatten().tolist() == [
            1000 + place for place in range(len(windows) * context)
        ]
        assert torch.equal(batch["labels"], batch["input_ids"])
        assert batch["labels"].dtype == batch["input_ids"].dtype == torch.int64


def test_windows_can_be_sent_to_worker_processes():
    windows = pickle.loads(pickle.dumps(evaluation_windows(Numbers(40), 8, 4, EOS)))
    assert windows[[1]]["input_ids"].tolist() == [list(range(1004, 1012))]
