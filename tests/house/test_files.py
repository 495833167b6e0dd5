"""Files are small, named for what they hold, and every choice has its page."""

import statistics

import pytest

from tests.house.source import PACKAGE, ROOT, files

FORBIDDEN = {"utils", "util", "helpers", "helper", "misc", "common"}
CHOICES = sorted(file.stem for file in (ROOT / "conf" / "compression").rglob("*.yaml"))


def lengths() -> dict[str, int]:
    places = [ROOT / name for name in ("src", "tests", "scripts", "benchmarks")]
    found = [file for place in places for file in place.rglob("*.py")]
    return {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in found
    }


def test_no_file_is_long_and_most_are_short():
    lines = lengths()
    assert len(lines) > 100
    assert [name for name, count in lines.items() if count > 500] == []
    long = [name for name, count in lines.items() if count > 350]
    assert len(long) <= len(lines) / 10, long
    code = [count for name, count in lines.items() if count and name.startswith("src/")]
    assert statistics.median(code) <= 150
    assert statistics.median(count for count in lines.values() if count) <= 150


def test_a_method_is_a_file_of_at_most_250_lines():
    lines = lengths()
    methods = {name: n for name, n in lines.items() if name.startswith("src/gossamer/compression/")}
    assert methods and [name for name, count in methods.items() if count > 250] == []


def test_no_file_is_called_something_that_says_nothing():
    named = [*files(), *(ROOT / "tests").rglob("*.py")]
    words = {file: {*file.stem.split("_"), *file.parent.name.split("_")} for file in named}
    assert [str(file) for file, own in words.items() if own & FORBIDDEN] == []


def test_no_class_is_a_base_or_a_manager():
    lines = [
        f"{file.relative_to(PACKAGE)}: {line}"
        for file in files()
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("class ") and ("Manager" in line or line.startswith("class Base"))
    ]
    assert lines == []


@pytest.mark.parametrize("choice", [name for name in CHOICES if name != "none"])
def test_every_method_has_a_page_that_names_its_command(choice):
    page = (ROOT / "docs" / "methods" / f"{choice}.md").read_text(encoding="utf-8")
    assert f"compression={choice}" in page


def test_every_page_is_of_a_method_that_exists():
    pages = {file.stem for file in (ROOT / "docs" / "methods").glob("*.md")}
    assert pages <= {*CHOICES}
