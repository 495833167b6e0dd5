"""Language modelling: every token's loss counted once, by an independent sum."""

import math

import pytest
import torch
from torch.nn import functional

from gossamer.data.lm import Corpus
from gossamer.data.lm_folder import LmFolder
from gossamer.tasks.language_modeling import LanguageModeling
from tests.models.decoders import drawn

TASK = LanguageModeling()


@pytest.fixture
def corpus(tmp_path):
    """(context, stride, batch_size) -> a folder's data, tokenised by a byte-level BPE."""
    import pyarrow
    from pyarrow import parquet

    from gossamer.models.bytelevel import train_bpe

    text = [f"line {row} of a text, größer than {row * row}\n" * 3 for row in range(60)]
    for split, part in (
        ("train", slice(0, 40)),
        ("validation", slice(40, 50)),
        ("test", slice(50, 60)),
    ):
        parquet.write_table(pyarrow.table({"text": text[part]}), tmp_path / f"{split}.parquet")

    def make(context: int, stride: int | None = None, batch_size: int = 4) -> Corpus:
        data = LmFolder(
            path=str(tmp_path),
            context=context,
            stride=stride,
            batch_size=batch_size,
            cache=str(tmp_path / "cache"),
        )
        data.encode(train_bpe(text[:40], 300))
        return data

    return make


def by_hand(model, data, context: int, stride: int) -> float:
    """Mean nats of the test tokens, one window at a time, scored where no earlier window did."""
    stream = torch.tensor(data.streams["test"][range(data.tokens("test"))].astype(int))
    total, count, scored = 0.0, 0, 1  # the first token is never predicted
    for start in range(0, len(stream), stride):
        window = stream[start : start + context]
        first = max(scored, start + 1)
        if first < start + len(window):
            logits = model(window[None]).logits[0].double()
            places = torch.arange(first - start, len(window))
            total += float(
                functional.cross_entropy(logits[places - 1], window[places], reduction="sum")
            )
            count += len(places)
        # with windows side by side the first token of each has no context and stays unscored
        scored = max(scored, start + len(window))
    return total / count


@pytest.mark.parametrize(("context", "stride"), [(16, None), (16, 5), (24, 24), (32, 31)])
@torch.no_grad()
def test_perplexity_is_that_of_each_token_in_the_window_that_scores_it(corpus, context, stride):
    data, model = corpus(context, stride), drawn().eval()
    seen = TASK.evaluate(model, data, "test")
    loss = by_hand(model, data, context, stride or context)
    assert seen["loss"] == pytest.approx(loss, rel=1e-5)
    assert seen["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    text = "".join(data.splits["test"])
    tokens_per_byte = data.tokens("test") / len(text.encode())
    assert seen["bits_per_byte"] == pytest.approx(loss / math.log(2) * tokens_per_byte, rel=1e-5)


def test_the_figures_do_not_depend_on_the_batch_size(corpus):
    model = drawn()
    few = TASK.evaluate(model, corpus(16, 8, batch_size=3), "test")
    assert few == pytest.approx(
        TASK.evaluate(model, corpus(16, 8, batch_size=11), "test"), rel=1e-5
    )


def test_a_streamed_model_has_the_same_figures(corpus):
    data = corpus(16, 8)
    expected = TASK.evaluate(drawn(), data, "test")
    assert TASK.evaluate(drawn(stream=True), data, "test") == pytest.approx(expected, rel=1e-5)


def test_a_streamed_model_sees_the_first_batches_that_are_asked_for(corpus):
    from gossamer.stages import _First

    few = _First(corpus(16, 8), 2)
    expected = TASK.evaluate(drawn(), few, "test")
    assert TASK.evaluate(drawn(stream=True), few, "test") == pytest.approx(expected, rel=1e-5)


def test_rows_are_the_windows_and_their_tokens_add_up_to_the_loss(corpus):
    data, rows = corpus(16, 8), {}
    seen = TASK.evaluate(drawn(), data, "test", rows=rows)
    assert rows.keys() == {"loss", "tokens"}
    assert int(rows["tokens"].sum()) == data.tokens("test") - 1
    mean = float((rows["loss"] * rows["tokens"]).sum() / rows["tokens"].sum())
    assert mean == pytest.approx(seen["loss"], rel=1e-5)


def test_the_loss_leaves_out_what_is_not_scored_and_is_float32():
    logits = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(9, (2, 6), generator=torch.Generator().manual_seed(1))
    labels[0, 2:5] = -100
    loss = TASK.loss({"labels": labels}, {"logits": logits.bfloat16()})
    picked = [(row, place) for row in range(2) for place in range(1, 6) if labels[row, place] >= 0]
    expected = torch.stack(
        [
            functional.cross_entropy(logits.bfloat16().float()[r, p - 1], labels[r, p])
            for r, p in picked
        ]
    ).mean()
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, expected)


def test_evaluation_leaves_the_model_in_the_mode_it_was(corpus):
    model = drawn().train()
    model.lm_head.eval()
    TASK.evaluate(model, corpus(16), "validation")
    assert model.training and not model.lm_head.training


def test_workloads_say_how_many_tokens_are_read(corpus):
    loads = TASK.workloads(corpus(16))
    assert {name: load["input_ids"].shape for name, load in loads.items()} == {
        "batch 1, 16 tokens": (1, 16),
        "batch 8, 16 tokens": (8, 16),
    }
