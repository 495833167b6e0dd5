"""Commands in README and docs/ would run, links lead somewhere, make targets exist."""

import importlib
import shlex

import pytest

from gossamer.cli import COMMANDS
from gossamer.cli.check import check
from tests.docs.pages import PAGES, ROOT, commands, links, title

WRITTEN = [(title(page), text) for page in PAGES for text in commands(page, "gossamer")]


def parser(command):
    return importlib.import_module(f"gossamer.cli.commands.{command.replace('-', '_')}").parser()


def test_the_pages_are_found_and_have_commands():
    assert {"README.md", "docs/records.md", "docs/add-a-method.md"} <= {title(p) for p in PAGES}
    assert len(WRITTEN) > 10
    assert {"README.md", "docs/methods/dsee.md"} <= {page for page, _ in WRITTEN}


@pytest.mark.parametrize(("page", "text"), WRITTEN, ids=[text for _, text in WRITTEN])
def test_a_command_in_the_pages_would_run(page, text, tmp_path):
    (tmp_path / "file").touch()
    places = {"FOLDER": str(tmp_path), "FILE": str(tmp_path / "file")}
    words = shlex.split(text, comments=True)[1:]
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    if words[:1] and words[0] in COMMANDS and words[0] != "plan":
        parser(words[0]).parse_args(words[1:])  # argparse ends the test where it cannot
    else:
        assert check(words[1:] if words[:1] == ["plan"] else words) == [], page


def test_a_wrong_command_would_be_noticed():
    assert check(["compression=lora", "compression.lora.rnk=8"])
    with pytest.raises(SystemExit):
        parser("compare").parse_args(["--fromat", "csv"])


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_to_files_that_exist(page):
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_files_named_in_code_marks_exist(page):
    import re

    named = re.findall(
        r"`((?:src|conf|docs|tests|benchmarks|scripts)/[\w/.-]+\.\w+)`", page.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_make_targets_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    written = {text.split()[1] for page in PAGES for text in commands(page, "make")}
    assert {"run", "test"} <= written
    assert [target for target in written if f"\n{target}:" not in makefile] == []
