"""A run's pictures on its page: exactly its files, text as text, and what is left out is said."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer.contract import Picture
from gossamer.records import compare, pictures
from gossamer.records import record as records
from gossamer.records.report import build, gallery
from gossamer.records.report.gather import gather
from tests.records.examples import done
from tests.records.report.conftest import Watched

EVIL = "<img src=x onerror=alert(1)></script>"


def drawn(root: Path, captions: Sequence[str], **changes: Any) -> Path:
    """A finished run below `root` with a picture for each caption; its folder of pictures."""
    run = done(**changes)
    directory = root / run["id"]
    records.write(directory / "record.json", run)
    made = [
        (
            "keys",
            Picture(f"p{n}", text, torch.full((20, 30 + n, 3), 40 * n + 9, dtype=torch.uint8)),
        )
        for n, text in enumerate(captions)
    ]
    pictures.write(directory, made)
    return directory / pictures.FOLDER


def only_run(root: Path) -> dict[str, Any]:
    (run,) = gather([root], compare.find([root]))["runs"]
    return run


def test_a_run_has_exactly_its_files(tmp_path: Path) -> None:
    folder = drawn(tmp_path, ["first", "second"])
    (folder / "keys-stray.png").write_bytes((folder / "keys-p0.png").read_bytes())
    run = only_run(tmp_path)
    assert [one["file"] for one in run["pictures"]] == ["keys-p0.png", "keys-p1.png"]
    for one in run["pictures"]:
        assert base64.b64decode(one["png"]) == (folder / one["file"]).read_bytes()
    sizes = [(one["width"], one["height"]) for one in run["pictures"]]
    assert sizes == [(30, 20), (31, 20)] and run["unshown"] == []


def test_a_run_without_pictures_has_no_word_of_them(tmp_path: Path) -> None:
    drawn(tmp_path, [])
    assert not {"pictures", "unshown"} & only_run(tmp_path).keys()


def test_missing_and_damaged_files_are_a_line_each_and_the_others_are_shown(
    tmp_path: Path,
) -> None:
    folder = drawn(tmp_path, ["a", "b", "c", "d"])
    (folder / "keys-p0.png").unlink()
    content = bytearray((folder / "keys-p1.png").read_bytes())
    content[-30] ^= 0xFF
    (folder / "keys-p1.png").write_bytes(content)
    (folder / "keys-p2.png").write_text("<svg onload=alert(1)>")
    run = only_run(tmp_path)
    assert [one["file"] for one in run["pictures"]] == ["keys-p3.png"]
    gone, broken, other = run["unshown"]
    assert "not there any more" in gone and "damaged" in broken and "damaged" in other
    (folder / pictures.INDEX).write_text("[{")
    run = only_run(tmp_path)
    assert run["pictures"] == [] and "cannot be read" in run["unshown"][0]


def test_what_is_too_large_or_too_many_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = drawn(tmp_path, [str(n) for n in range(4)])
    sizes = [(folder / f"keys-p{n}.png").stat().st_size for n in range(4)]
    monkeypatch.setattr(gallery, "MOST", 3)
    run = only_run(tmp_path)
    assert len(run["pictures"]) == 3 and "1 more" in run["unshown"][0]
    monkeypatch.setattr(gallery, "LARGEST", min(sizes) - 1)
    run = only_run(tmp_path)
    assert run["pictures"] == [] and len(run["unshown"]) == 4
    assert f"{sizes[0]} bytes, more than {min(sizes) - 1}" in run["unshown"][0]


def test_a_page_takes_no_more_pictures_than_it_has_room_for(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in "ab")
    room = gallery.Room(sum(f.stat().st_size for f in drawn(first, ["x"]).glob("*.png")) + 1)
    drawn(second, ["x"])
    (one,), (other,) = (list(root.iterdir()) for root in (first, second))
    assert gallery.shown(one, room)["unshown"] == [] and room.left == 1
    left = gallery.shown(other, room)
    assert left["pictures"] == [] and "the page has" in left["unshown"][0]


def test_the_runs_page_shows_them_with_their_captions(browser: Any, tmp_path: Path) -> None:
    folder = drawn(tmp_path / "runs", ["one caption", "one caption", EVIL])
    (folder / "keys-p1.png").unlink()
    drawn(tmp_path / "runs", [], id="plain-s1", config_digest="plain")
    file = build([tmp_path / "runs"], tmp_path / "report.html")
    assert "alert(1)" not in file.read_text()
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    watched = Watched(context)
    page = watched.open(file, "#run=abcdef012345-s1")
    shown = page.locator("#run-pictures img")
    assert shown.count() == 2 and page.locator("main img").count() == 2
    for n, place in enumerate((0, 2)):
        image = shown.nth(n)
        image.scroll_into_view_if_needed()
        assert image.evaluate("(one) => one.decode().then(() => one.naturalWidth)") == 30 + place
    assert EVIL in page.text_content("#run-pictures")
    assert "one caption" in page.text_content("#run-pictures")
    assert "not there any more" in page.text_content("#run-pictures .note")
    assert page.locator("#run nav").get_by_text("Pictures").is_visible()
    page.evaluate("location.hash = '#run=plain-s1'")
    page.locator("#run h2").wait_for()
    page.wait_for_selector("#run-pictures", state="detached")
    assert watched.said == []
    context.close()


def test_a_list_written_by_somebody_else_names_no_other_file(tmp_path: Path) -> None:
    folder = drawn(tmp_path, ["a"])
    secret = tmp_path / "secret.png"
    secret.write_bytes((folder / "keys-p0.png").read_bytes())
    entry = {"file": "../../secret.png", "caption": "", "method": ""}
    (folder / pictures.INDEX).write_text(json.dumps([entry]))
    run = only_run(tmp_path)
    assert run["pictures"] == [] and "no file of its folder" in run["unshown"][0]
