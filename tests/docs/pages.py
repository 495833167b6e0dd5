"""What README and docs/ say that can be held to the code: commands, links, make targets."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_lines(page: Path) -> Iterator[str]:
    """The lines of a page's code blocks, fenced or indented; a line that ends in a backslash goes
    on in the next one. A prompt `$ ` in front of a command is left out."""
    fenced, held = False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            text = held + line.strip()
            if text.endswith("\\"):
                held = text[:-1]
                continue
            held = ""
            yield text.removeprefix("$ ").removeprefix("# ").strip()


def commands(page: Path, program: str) -> list[str]:
    return [line for line in code_lines(page) if line.split(" ")[0] == program]


def links(page: Path) -> list[str]:
    """The targets of a page's links and images that are files of this repository."""
    found = LINK.findall(page.read_text(encoding="utf-8"))
    return [one.partition("#")[0] for one in found if not one.startswith(("http", "mailto", "#"))]
