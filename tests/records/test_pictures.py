"""The pictures beside a record: written whole, listed last, read back with care."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gossamer.contract import Picture
from gossamer.errors import ResumeError, StageError
from gossamer.records import pictures


def picture(name: str = "one", caption: str = "what is seen", value: int = 7) -> Picture:
    return Picture(name, caption, torch.full((4, 6, 3), value, dtype=torch.uint8))


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


def files(directory: Path) -> list[str]:
    return sorted(file.name for file in (directory / pictures.FOLDER).iterdir())


def test_what_is_written_is_read_back_pixel_by_pixel(tmp_path: Path) -> None:
    pictures.write(tmp_path, [("a", picture()), ("b", picture(caption="§ <b>", value=9))])
    assert files(tmp_path) == ["a-one.png", "b-one.png", "pictures.json"]
    first, second = pictures.read(tmp_path)
    assert (first.file, first.method, first.caption) == ("a-one.png", "a", "what is seen")
    assert second.caption == "§ <b>"
    assert (pixels(tmp_path / "pictures" / second.file) == 9).all()
    listed = json.loads((tmp_path / "pictures" / "pictures.json").read_text())
    assert listed[0] == {"file": "a-one.png", "caption": "what is seen", "method": "a"}


def test_writing_again_replaces_what_was_there_and_nothing_leaves_nothing(tmp_path: Path) -> None:
    assert pictures.read(tmp_path) == []
    pictures.write(tmp_path, [("a", picture()), ("a", picture("two"))])
    pictures.write(tmp_path, [("a", picture("three"))])
    assert files(tmp_path) == ["a-three.png", "pictures.json"]
    pictures.write(tmp_path, [])
    assert not (tmp_path / "pictures").exists() and pictures.read(tmp_path) == []


def test_a_large_picture_is_stored_in_a_palette_near_its_colours(tmp_path: Path) -> None:
    across = torch.linspace(0, 255, 400)
    ramp = torch.stack([across.expand(400, 400), across[:, None].expand(400, 400)], -1)
    noise = torch.randint(0, 9, (400, 400, 1), generator=torch.Generator().manual_seed(0))
    shade = torch.cat([ramp, noise + ramp.mean(-1, keepdim=True) * 0.9], -1).to(torch.uint8)
    content = pictures.encoded(Picture("x", "", shade))
    plain = io.BytesIO()
    Image.fromarray(shade.numpy()).save(plain, "PNG", optimize=True)
    assert len(content) < len(plain.getvalue()) > pictures.LARGE
    stored = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert 0 < np.abs(stored - shade.numpy()).mean() < 8


@pytest.mark.parametrize(
    "wrong",
    [
        Picture("one", "", torch.zeros(4, 6, 3)),
        Picture("one", "", torch.zeros(3, 4, 6, dtype=torch.uint8)),
        Picture("one", "", torch.zeros(0, 6, 3, dtype=torch.uint8)),
        Picture("../one", "", torch.zeros(4, 6, 3, dtype=torch.uint8)),
    ],
    ids=["float", "channels first", "empty", "elsewhere"],
)
def test_what_is_no_picture_is_refused_before_anything_is_touched(
    wrong: Picture, tmp_path: Path
) -> None:
    pictures.write(tmp_path, [("a", picture())])
    with pytest.raises(ValueError, match=r"^a: the picture"):
        pictures.write(tmp_path, [("a", picture("two")), ("a", wrong)])
    assert files(tmp_path) == ["a-one.png", "pictures.json"]


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        pictures.write(tmp_path, [("a", picture()), ("a", picture())])


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "run"
    blocked.write_text("a file")
    with pytest.raises(StageError, match="could not be written"):
        pictures.write(blocked, [("a", picture())])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "null",
        '[{"file": "a.png"}]',
        '[{"file": "../../record.png", "caption": "", "method": ""}]',
        '[{"file": "/a.png", "caption": "", "method": ""}]',
    ],
)
def test_a_damaged_list_is_named(text: str, tmp_path: Path) -> None:
    folder = tmp_path / pictures.FOLDER
    folder.mkdir()
    (folder / pictures.INDEX).write_text(text)
    with pytest.raises(ResumeError, match=r"pictures\.json: "):
        pictures.read(tmp_path)
