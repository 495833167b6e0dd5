"""Who has pictures to show is asked once, of the exported model, with rows that people can see."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gossamer import pictures, plan, result
from gossamer.contract import Batch, Fact, Method, Picture
from gossamer.data.digits import Digits
from gossamer.dense import Dense
from gossamer.records.pictures import FOLDER, read
from gossamer.run import _clear
from gossamer.stages import Experiment, Watch
from tests.contract import table
from tests.contract.table import ROWS


class Showing(Method):
    """Trains what is trained, and shows the first pixels it was given."""

    start = "init"

    def __init__(self) -> None:
        self.asked: list[tuple[nn.Module, Batch]] = []

    def stages(self, training: list[Any]) -> list[Any]:
        return training

    def ledger(self, loaded: nn.Module) -> list[Fact]:
        return [Fact("head", (3, 32))]

    def pictures(self, loaded: nn.Module, batch: Batch) -> list[Picture]:
        assert not loaded.training and not torch.is_grad_enabled()
        self.asked.append((loaded, batch))
        return [Picture("first", "the first row", batch["pixels"][0])]


class Silent(Showing):
    pictures = Method.pictures


def made_of(**methods: Method) -> Experiment:
    made = table.experiment(ROWS["none on ViT"])
    made.methods.update(methods)
    return made


def files(directory: Path) -> list[str]:
    folder = directory / FOLDER
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_every_method_that_shows_something_is_asked_and_asking_again_adds_nothing(
    tmp_path: Path,
) -> None:
    one, other = Showing(), Showing()
    made = made_of(one=one, silent=Silent(), other=other)
    model = made.start()
    for _ in range(2):
        assert pictures.show(made, model, tmp_path) == 2
        assert files(tmp_path) == ["one-first.png", "other-first.png", "pictures.json"]
    assert [shown.method for shown in read(tmp_path)] == ["one", "other"]
    assert model.training, "the mode that it had"
    first, again = one.asked
    assert all(torch.equal(first[1][name], again[1][name]) for name in first[1])


def test_who_shows_nothing_leaves_no_folder_and_clears_an_earlier_one(tmp_path: Path) -> None:
    made = made_of(silent=Silent())
    model = made.start()
    assert pictures.show(made, model, tmp_path) == 0 and files(tmp_path) == []
    pictures.show(made_of(one=Showing()), model, tmp_path)
    assert pictures.show(made, model, tmp_path) == 0 and files(tmp_path) == []


def test_rows_are_fixed_ones_of_the_test_split_ready_and_as_people_see_them() -> None:
    data = Digits(size=16)
    data.load()
    batch = pictures.sample(data, torch.device("cpu"))
    rows = [0, 112, 224, 336]  # of 449
    raw = data.rows("test")[rows]
    assert batch["labels"].tolist() == raw["labels"].tolist()
    assert torch.equal(batch["x"], data.on_device(raw)["x"])
    assert batch["pixels"].shape == (4, 16, 16, 3) and batch["pixels"].dtype == torch.uint8
    assert torch.equal(batch["pixels"][..., 2], raw["x"][:, 0])


def test_pictures_that_are_no_bytes_are_stretched_and_texts_have_none() -> None:
    made = made_of()
    pixels = pictures.sample(made.data, torch.device("cpu"))["pixels"]
    assert pixels.shape == (4, 8, 8, 3) and pixels.min() == 0 and pixels.max() == 255
    words = table.experiment(ROWS["none"])
    assert "pixels" not in pictures.sample(words.data, torch.device("cpu"))


def test_a_finished_run_asks_the_model_that_was_read_back(tmp_path: Path) -> None:
    one = Showing()
    made = made_of(one=one)
    budget = plan.budget(made)
    model, rows = table.run(made, tmp_path / "outputs", tmp_path / "journal")
    twin = Dense(made, budget.twin, tmp_path / "outputs")
    said: list[str] = []
    finished = result.Finished(made, model, twin, tmp_path / "run", Watch(), said.append)
    result.finish(finished, rows)
    ((loaded, _),) = one.asked
    assert loaded is not model
    assert table.same(model.state_dict(), loaded.state_dict())
    assert files(tmp_path / "run") == ["one-first.png", "pictures.json"]
    assert f"drew the exported model: {tmp_path / 'run' / FOLDER}" in said
    _clear(tmp_path / "run")  # rerun=true
    assert files(tmp_path / "run") == []


def test_a_method_that_cannot_draw_fails_loudly(tmp_path: Path) -> None:
    class Broken(Showing):
        def pictures(self, loaded: nn.Module, batch: Batch) -> list[Picture]:
            raise KeyError("a bug")

    made = made_of(broken=Broken())
    with pytest.raises(KeyError, match="a bug"):
        pictures.show(made, made.start(), tmp_path)
