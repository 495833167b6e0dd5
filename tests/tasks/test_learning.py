"""Model, data and task together: a drawn model learns to tell the packages apart."""

import torch

from gossamer.data.docstrings import Docstrings
from gossamer.models.bert import Bert
from gossamer.seeds import drawing
from gossamer.tasks.classification import Classification


def test_a_tiny_bert_learns_the_docstrings_and_padding_does_not_matter():
    data = Docstrings(max_length=32)
    builder = Bert(
        None, "init", vocabulary=4000, layers=2, width=128, heads=2, neurons=512, dropout=0.0
    )
    data.encode(builder.tokenizer(data.texts()))
    task = Classification()
    with drawing(1, "init"):
        model = builder.build(data.info)
    assert builder.requirements(model, data) == task.requirements(model, data) == []
    before = task.evaluate(model, data, "test")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in data.train_batches(seed=1, first=0, count=80):
        task.loss(batch, task.forward(model, batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = task.evaluate(model, data, "test")
    majority = max(data.splits["test"].labels.count(label) for label in range(10))
    assert after["accuracy"] > majority / data.info.rows["test"] + 0.1
    assert after["loss"] < before["loss"]

    batched = task.evaluate(model, data, "validation")
    data.batch_size = 1  # every row alone, so without any padding of another row's making
    alone = task.evaluate(model, data, "validation")
    assert alone["accuracy"] == batched["accuracy"]
    assert abs(alone["loss"] - batched["loss"]) < 1e-4
