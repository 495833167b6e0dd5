"""A page over 1,000 synthetic runs, opened once in a headless Chromium and put back to its start
before each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gossamer.records import record as records
from gossamer.records.report import build
from tests.records import synthetic
from tests.records.examples import failed

RUNS = 1000


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's file: 1,000 finished runs, one that failed and one that was preempted."""
    root = tmp_path_factory.mktemp("runs")
    synthetic.write(root, RUNS)
    for n, status in enumerate(("failed", "preempted")):
        record = failed(status, id=f"cut{n}-s1", config_digest=f"cut{n}", error=f"lost {n}")
        record["config"] = synthetic.run("minilm", "docstrings", "dsee", 0.5, 1e-4, 1)["config"]
        records.write(root / "cut" / str(n) / "record.json", record)
    return build([root], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium; where it is not installed these tests are skipped (CI has it)."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium: scripts/browser.sh installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # root, which CI is, has no sandbox
        found = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """A page and everything that it said or asked for."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def _dialog(self, dialog: Any) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, file: Path, place: str = "") -> Any:
        self.page.goto(f"{file.as_uri()}{place}")
        self.page.wait_for_selector("html[data-ready]")
        return self.page


@pytest.fixture(scope="session")
def opened(browser: Any, report: Path) -> Watched:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched = Watched(context)
    watched.open(report)
    return watched


@pytest.fixture
def page(opened: Watched) -> Iterator[Any]:
    """The page as it opens. What it says on the console, or asks of a network, fails the test."""
    opened.page.evaluate("location.hash = '#'; window.scrollTo(0, 0)")
    yield opened.page
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []
