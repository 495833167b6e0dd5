"""The sheet that documentation shows is made of the files that runs left."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from gossamer.contract import Picture
from gossamer.records import pictures
from gossamer.records import record as records
from tests.house.source import ROOT
from tests.records.examples import done


@pytest.fixture(scope="module")
def script() -> ModuleType:
    place = ROOT / "scripts" / "picture_sheet.py"
    spec = importlib.util.spec_from_file_location("picture_sheet", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def run(root: Path, method: str, *values: int) -> Path:
    records.write(root / "record.json", done())
    shown = [
        Picture(f"p{value}", "", torch.full((20, 30, 3), value, dtype=torch.uint8))
        for value in values
    ]
    pictures.write(root, [(method, one) for one in shown])
    return root


def test_runs_and_files_stand_in_their_order(script: ModuleType, tmp_path: Path) -> None:
    one, other = run(tmp_path / "a", "one", 60, 90), run(tmp_path / "b", "other", 120, 150)
    output = tmp_path / "sheet.png"
    words = [output, one, other / "pictures" / "other-p150.png", one, "--row", 2]
    assert script.main([str(word) for word in words]) == 0
    seen = np.asarray(Image.open(output).convert("RGB"))
    gap, title = script.GAP, script.TITLE
    assert seen[title + 10, gap + 5].tolist() == [90] * 3
    assert seen[title + 10, 2 * gap + 30 + 5].tolist() == [150] * 3
    assert seen[2 * title + 20 + 10, gap + 5].tolist() == [90] * 3
    assert script.find(one, 1).title == "one: minilm on docstrings"


def test_what_is_not_there_is_named_with_what_is(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run(tmp_path / "a", "one", 60)
    for words in ([str(one), "--row", "2"], [str(one / "pictures" / "nothing.png")]):
        assert script.main([str(tmp_path / "sheet.png"), *words]) == 2
        assert "one-p60.png" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()
