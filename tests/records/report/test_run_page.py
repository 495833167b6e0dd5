"""A run's own page, copying, themes and sizes of screen, in a browser."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.records.report.conftest import Watched
from tests.records.report.looking import by_run, column, fill, told


def open_first(page: Any, method: str = "=dsee") -> str:
    by_run(page)
    fill(page, "method", method)
    key = page.get_attribute("#rows tr >> nth=0", "data-row")
    page.locator("#rows tr >> nth=0").locator("td.open a").click()
    return key


def test_a_run_has_a_page_of_its_own_and_the_back_button_leaves_it(page: Any) -> None:
    key = open_first(page)
    assert f"run={key}" in page.url
    text = page.text_content("#run")
    for word in (
        "Quality",
        "Checks",
        "Storage",
        "Theoretical",
        "Measured",
        "Configuration",
        "Environment",
        "reload equality",
        "compression",
        "dsee.sparsity",
        "dsee.train",
    ):
        assert word in text, word
    ledgers = {
        name: page.text_content(f"#run .ledger.{name}") for name in ("storage", "theoretical")
    }
    assert "non-zero parameters" in ledgers["theoretical"]
    assert "non-zero parameters" not in ledgers["storage"]
    assert "no speed-up" in text or "× faster" in text
    page.go_back()
    assert page.locator("#summary").is_visible() and page.locator("#run").is_hidden()
    assert set(column(page, "method")) == {"dsee"}


def test_two_runs_differ_in_what_differs(page: Any) -> None:
    open_first(page)
    other = page.eval_on_selector_all(
        "#diff-with option", "all => all.find((one) => one.textContent.startsWith('lora ·')).value"
    )
    page.select_option("#diff-with", other)
    text = page.text_content("#diff-body")
    assert "compression.dsee.sparsity" in text and "compression.lora.sparsity" in text
    assert "non-zero parameters (theoretical)" in text
    assert "trainer.batch" not in text and "max_length" not in text  # equal in both
    assert f"diff={other}" in page.url
    page.click("#back")
    assert page.locator("#table").is_visible()


def test_runs_that_did_not_finish_are_listed_with_their_error(page: Any) -> None:
    listed = page.locator("#unfinished-body tbody tr")
    assert listed.count() == 2
    assert {"lost 0", "lost 1"} == set(
        page.eval_on_selector_all(
            "#unfinished-body tbody tr", "all => all.map((row) => row.cells[2].textContent)"
        )
    )
    listed.nth(0).locator("a").click()
    assert page.text_content("#run .error") == "lost 0"
    assert "trainer" in page.text_content("#run")


@pytest.mark.parametrize("form", ["CSV", "Markdown", "LaTeX"])
def test_rows_are_copied_as_they_match(page: Any, form: str) -> None:
    fill(page, "method", "=dsee")
    shown = int(told(page).split()[0])
    page.click("#copy summary")
    page.get_by_role("button", name=form, exact=True).click()
    page.locator("#said").filter(has_text=f"as {form}").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    if form == "CSV":
        head, *lines = csv.reader(io.StringIO(text))
        assert head[0] == "Method" and "on disk (MB)" in head
        assert "test accuracy, half of its 95% interval" in head
        assert {line[0] for line in lines} == {"dsee"} and len(lines) == shown
        place = head.index("test accuracy")
        assert all(0 < float(line[place]) < 1 for line in lines)
    elif form == "Markdown":
        head, rule, *lines = text.strip().split("\n")
        assert head.startswith("| Method |") and set(rule) <= set("|-: ")
        assert len(lines) == shown and all(line.count("|") == head.count("|") for line in lines)
    else:
        assert text.startswith("\\begin{tabular}{l") and "\\bottomrule" in text
        assert text.count("\\\\\n") == shown + 1 and "$\\pm$" in text


def test_the_theme_is_the_systems_until_it_is_chosen(browser: Any, report: Path) -> None:
    context = browser.new_context(color_scheme="dark")
    watched = Watched(context)
    page = watched.open(report)

    def background() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = background()
    assert page.text_content("#theme") == "Light"
    page.click("#theme")
    light = background()
    assert dark != light
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert background() == light
    assert watched.said == []
    context.close()


def test_on_a_phone_only_the_tables_box_scrolls_sideways(browser: Any, report: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    watched = Watched(context)
    page = watched.open(report)
    by_run(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator(".box.runs")
    assert box.evaluate("(one) => one.scrollWidth > one.clientWidth")
    key = page.get_attribute("#rows tr >> nth=0", "data-row")
    page.evaluate(f"location.hash = '#run={key}'")
    page.wait_for_selector("#run h2")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert watched.said == []
    context.close()


def test_it_prints_on_white_with_every_plot(browser: Any, report: Path, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    watched = Watched(context)
    page = watched.open(report)
    page.evaluate(
        "addEventListener('beforeprint', () => { window.drawnForPrint = "
        "[...document.querySelectorAll('.plot')].filter((one) => one.data).length; })"
    )
    page.pdf(path=tmp_path / "page.pdf", print_background=True)
    assert page.evaluate("window.drawnForPrint") == page.locator(".plot").count() >= 9
    assert page.evaluate("document.documentElement.classList.contains('printing')") is False
    assert watched.said == []
    context.close()
