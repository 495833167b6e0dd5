"""What a run is asked besides joins the quality of model and twin; a twin answers once."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer import plan
from gossamer.dense import Dense
from gossamer.result import Finished, finish
from gossamer.stages import Watch
from tests.contract import table


@dataclass(frozen=True)
class Asked:
    """Answers with the share of zeros in the word embeddings; remembers who asked."""

    names: tuple[str, ...] = ("zeros",)
    limit: int | None = None
    calls: list[str] = field(default_factory=list)

    def fingerprint(self) -> dict[str, Any]:
        return {"names": self.names, "limit": self.limit}

    def evaluate(self, model: Any, tokenizer: Any, device: Any) -> dict[str, float]:
        assert tokenizer is not None and not model.training
        self.calls.append(str(device))
        weights = torch.cat([p.flatten() for p in model.parameters() if p.dim() == 2])
        return {"zero_shot/zeros": float((weights == 0).float().mean()), "zero_shot/mean": 0.5}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("outputs")


def test_the_twin_answers_once_for_all_runs_that_ask_the_same(outputs):
    asked = Asked()
    for limit in (None, None, 3):
        made = table.experiment(table.ROWS["none"])
        made.zero_shot = replace(asked, limit=limit)
        figures = Dense(made, (), outputs).zero_shot(Watch())
        assert figures["zero_shot/mean"] == 0.5
    assert len(asked.calls) == 2
    (place,) = (outputs / "base").iterdir()
    assert len(list(place.glob("zero-shot-*.json"))) == 2
    made.zero_shot = None
    assert Dense(made, (), outputs).zero_shot(Watch()) == {}


def test_both_sides_of_the_record_have_the_figures(outputs, tmp_path):
    made = table.experiment(table.ROWS["magnitude, no recovery"])
    made.zero_shot = asked = Asked()
    model, rows = table.run(made, outputs, tmp_path / "journal")
    twin = Dense(made, plan.budget(made).twin, outputs)
    found = finish(Finished(made, model, twin, tmp_path, Watch(), lambda text: None), rows)
    dense, compressed = found["quality"]["dense"], found["quality"]["compressed"]
    assert dense.keys() == compressed.keys() >= {"accuracy", "zero_shot/zeros", "zero_shot/mean"}
    assert compressed["zero_shot/zeros"] > 0.2 > dense["zero_shot/zeros"]
    assert asked.calls == ["cpu", "cpu"]


def test_a_configuration_asks_nothing_unless_it_says_so(monkeypatch):
    assert plan._zero_shot({}) is None
    assert plan._zero_shot({"zero_shot": [], "folder": None, "limit": 3, "batch_size": 2}) is None
    asked = plan._zero_shot({"zero_shot": ["piqa"], "folder": "f", "limit": 3, "batch_size": 2})
    assert (asked.names, asked.folder, asked.limit, asked.batch_size) == (("piqa",), "f", 3, 2)
    made = table.experiment(table.ROWS["none"])
    made.zero_shot = asked
    (line,) = plan.problems(made)
    assert line == (
        "eval.zero_shot=[piqa]: asks language models, but the data set is text; "
        "type eval.zero_shot=[]"
    )
