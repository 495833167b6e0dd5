"""The page in a browser: sorting, filtering, selecting and the rest do what they say."""

from pathlib import Path
from typing import Any

import pytest

from gossamer.records import pareto
from gossamer.records import record as records
from gossamer.records.report import build
from tests.records import synthetic
from tests.records.examples import done
from tests.records.report.conftest import RUNS, Watched
from tests.records.report.looking import by_run, click_point, column, drawn, fill, numbers, told

SCOPE = ("bert_tiny", "docstrings")  # what is shown first
HERE = [
    run
    for run in synthetic.runs(RUNS)
    if (run["choices"]["model"], run["choices"]["dataset"]) == SCOPE
]


def accuracy(run: dict[str, Any]) -> float:
    return run["quality"]["compressed"]["accuracy"]


def method(run: dict[str, Any]) -> str:
    return "+".join(run["choices"]["compression"]) or "none"


def test_it_opens_from_disk_with_everything_in_it(page: Any, opened: Watched) -> None:
    assert len({url for url in opened.asked if url.startswith("file:")}) == 1
    assert page.text_content("#counts").startswith("1,000 runs, 2 not finished")
    assert page.locator(".card").count() == 4
    places = ['[data-panel="bytes"]', '[data-curve="0"]', '[data-layers="bits"]', "#axes-body"]
    assert all(drawn(page, f"{place} .plot") for place in places)


def test_the_table_starts_with_the_best_configuration_and_its_interval(page: Any) -> None:
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in HERE:
        groups.setdefault(run["config_digest"], []).append(run)
    means = [sum(map(accuracy, group)) / len(group) for group in groups.values()]
    assert told(page) == f"{len(groups)} configurations"
    assert numbers(page, "quality")[0] == pytest.approx(max(means), abs=5e-5)
    assert set(column(page, "seed")) == {"5"}
    assert all(" ± " in text for text in column(page, "quality"))


def test_sorting_goes_both_ways_and_says_so(page: Any) -> None:
    page.evaluate("location.hash = '#group=0&cols=method,seed,latency.0'")
    head = page.locator('th[data-id="latency.0"]')
    times = sorted(run["speed"][0]["compressed"]["p50"] for run in HERE)
    assert head.get_attribute("aria-sort") == "none"
    for direction, reverse in (("descending", True), ("ascending", False)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == direction
        found = numbers(page, "latency.0")
        assert len(found) == 100
        best = times[::-1] if reverse else times
        assert found == pytest.approx(best[:100], abs=0.006)
    page.click('th[data-id="method"] button')
    found = column(page, "method")
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("name", "text", "holds"),
    [
        ("quality", ">0.8", lambda run: accuracy(run) > 0.8),
        ("quality", ">= 0.7 <0.75", lambda run: 0.7 <= accuracy(run) < 0.75),
        ("quality", "0.75..0.78", lambda run: 0.75 <= accuracy(run) <= 0.78),
        ("seed", "=3", lambda run: run["seed"] == 3),
        ("method", "magnitude", lambda run: "magnitude" in method(run)),
        ("method", "=magnitude", lambda run: method(run) == "magnitude"),
        ("method", "!lora", lambda run: "lora" not in method(run)),
    ],
)
def test_a_filter_leaves_what_it_says(page: Any, name: str, text: str, holds: Any) -> None:
    by_run(page)
    fill(page, name, text)
    expected = [run for run in HERE if holds(run)]
    assert 0 < len(expected) < len(HERE)
    assert told(page) == f"{len(expected)} of {len(HERE)} runs"
    shown = numbers(page, "quality")
    best = sorted(map(accuracy, expected), reverse=True)[: len(shown)]
    assert shown == pytest.approx(best, abs=5e-5)


def test_filters_search_and_plots_go_together_and_can_be_reset(page: Any) -> None:
    by_run(page)
    fill(page, "quality", ">0.7")
    page.fill("#search", "dsee trainer.lr=1e-05 seed=2")
    expected = [r for r in HERE if method(r) == "dsee" and r["seed"] == 2 and accuracy(r) > 0.7]
    assert told(page) == f"{len(expected)} of {len(HERE)} runs" and expected
    (trace,) = [t for t in drawn(page, '[data-panel="bytes"] .plot') if t["mode"] == "markers"]
    assert trace["name"] == "dsee" and len(trace["x"]) == len(expected)
    page.fill("#search", "no such run")
    assert "No run matches" in page.text_content("#rows")
    page.click("#reset")
    assert page.input_value("#search") == "" and page.input_value('[data-filter="quality"]') == ""
    assert told(page) == f"{len(HERE)} runs"


def test_columns_can_be_chosen(page: Any) -> None:
    page.click("#columns summary")
    ledger = page.locator("fieldset", has=page.locator('[data-column="nonzero"]'))
    assert ledger.locator("legend").text_content().startswith("theoretical")
    page.check('[data-column="nonzero"]')
    page.uncheck('[data-column="bytes"]')
    page.keyboard.press("Escape")
    titles = page.eval_on_selector_all("th[data-id]", "all => all.map((one) => one.dataset.id)")
    assert "nonzero" in titles and "bytes" not in titles
    assert min(numbers(page, "nonzero")) > 0


def test_a_click_on_a_point_selects_it_everywhere(page: Any) -> None:
    by_run(page)
    fill(page, "method", "=magnitude")
    place = '[data-panel="bytes"] .plot'
    traces = drawn(page, place)
    key = traces[1]["customdata"][0]
    click_point(page, place, 1, 0)
    assert page.get_attribute(f'[data-row="{key}"]', "aria-selected") == "true"
    assert "1 run selected" in page.text_content("#tray")
    for panel in ("bytes", "latency", "macs", "trainable"):
        (trace,) = [
            t for t in drawn(page, f'[data-panel="{panel}"] .plot') if t["mode"] == "markers"
        ]
        largest = max(range(len(trace["size"])), key=lambda n: trace["size"][n])
        assert trace["customdata"][largest] == key
    (curve,) = drawn(page, '[data-curve="0"] .plot')
    assert curve["name"] == key
    assert page.text_content("#curves-body .lead") == "1 selected run."
    click_point(page, place, 1, 0)
    assert page.locator("#tray").is_hidden()


def test_the_front_is_what_nothing_beats_in_both(page: Any) -> None:
    by_run(page)
    front, *points = drawn(page, '[data-panel="bytes"] .plot')
    pairs = [(x, y) for trace in points for x, y in zip(trace["x"], trace["y"], strict=True)]
    assert len(pairs) == len(HERE)
    unbeaten = {
        (x, y)
        for x, y in pairs
        if not any((a <= x and b > y) or (a < x and b >= y) for a, b in pairs)
    }
    assert set(zip(front["x"], front["y"], strict=True)) == unbeaten


def test_runs_that_tie_are_on_the_front_together(browser: Any, tmp_path: Path) -> None:
    figures = [(300_000, 0.80), (300_000, 0.80), (300_000, 0.79), (350_000, 0.80), (360_000, 0.85)]
    for seed, (size, accuracy) in enumerate(figures, 1):
        record = done(
            id=f"r-s{seed}",
            seed=seed,
            config_digest="r",
            size__checkpoint_bytes=size,
            quality__compressed={"accuracy": accuracy},
        )
        records.write(tmp_path / str(seed) / "record.json", record)
    context = browser.new_context()
    page = Watched(context).open(build([tmp_path], tmp_path / "report.html"))
    by_run(page)
    front = drawn(page, '[data-panel="bytes"] .plot')[0]
    expected = pareto.front([(size, -accuracy) for size, accuracy in figures])
    assert sorted(front["customdata"]) == [f"r-s{n}" for n, on in enumerate(expected, 1) if on]
    assert sum(expected) == 3
    context.close()


def test_a_hover_shows_the_run(page: Any) -> None:
    by_run(page)
    fill(page, "method", "=magnitude")
    place = '[data-panel="latency"] .plot'
    text = drawn(page, place)[1]["text"][0]
    assert text.startswith("<b>magnitude · sparsity") and " ms measured" in text
    assert "latency p50, batch 1, ms (measured)" in page.text_content(place)
    assert "measured on a processor, float32, torch, 2 threads" in page.text_content(
        '[data-panel="latency"] .note'
    )


def test_a_row_is_reached_and_selected_with_the_keyboard(page: Any) -> None:
    first, second = page.locator("#rows tr").nth(0), page.locator("#rows tr").nth(1)
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert second.get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.dataset.row") == second.get_attribute("data-row")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("o")
    assert page.locator("#run h2").is_visible() and page.locator("#summary").is_hidden()


def test_every_seeds_page_is_reached_with_the_keyboard(page: Any) -> None:
    row = page.locator("#rows tr").nth(1)
    second = row.locator("td.open a").nth(1)
    place = second.get_attribute("href")
    row.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert second.evaluate("(link) => link === document.activeElement")
    assert second.evaluate("(link) => getComputedStyle(link).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator("#run h2").is_visible()
    assert page.url.endswith(place) and page.text_content("#run h2").endswith("seed 2")
    page.go_back()
    second.focus()
    page.keyboard.press("ArrowDown")
    assert row.evaluate("(one) => one.nextElementSibling === document.activeElement")


def test_links_outside_the_table_are_reached_with_tab(page: Any) -> None:
    page.locator("#rows tr").nth(0).click()
    drawn(page, '[data-curve="0"] .plot')
    for place in ("#tray ul a", "#curves-body .legend a"):
        assert page.locator(place).count() > 0
        assert set(page.eval_on_selector_all(place, "all => all.map((a) => a.tabIndex)")) == {0}
    page.locator("#tray ul a").last.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"


def test_only_what_can_be_selected_says_that_it_is(page: Any) -> None:
    """aria-selected is a row's only in a grid."""
    selectable = page.locator("[aria-selected]").count()
    grid = page.locator('table[role="grid"][aria-multiselectable="true"]')
    assert selectable == grid.locator("tbody tr[aria-selected]").count() == 50


def test_thousands_are_set_apart_and_can_be_typed_so(page: Any) -> None:
    page.evaluate("location.hash = '#group=0&scope=all&cols=method,trainable'")
    fill(page, "trainable", "22,700")
    assert set(column(page, "trainable")) == {"22,700.0"}
    fill(page, "trainable", ">=22,700")
    assert set(column(page, "trainable")) == {"22,700.0"}
    fill(page, "trainable", "22,699..22,701")
    assert set(column(page, "trainable")) == {"22,700.0"}


def test_all_that_can_be_pressed_is_a_button_or_a_link(page: Any) -> None:
    page.reload()  # Tab starts at the top
    page.wait_for_selector("html[data-ready]")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    unnamed = page.eval_on_selector_all(
        "button, input, select, a[href]",
        "all => all.filter((one) => !(one.textContent.trim() || one.ariaLabel || "
        "one.labels?.length)).map((one) => one.outerHTML)",
    )
    assert unnamed == []
    assert page.locator("[onclick]").count() == 0


def test_the_view_stands_in_the_address(page: Any, opened: Watched, report: Path) -> None:
    by_run(page)
    fill(page, "quality", "<0.75")
    page.click('th[data-id="bytes"] button')
    page.locator("#rows tr").nth(2).click()
    page.locator(".card-foot button").nth(2).click()  # the second card's "Show below"
    page.evaluate("window.scrollTo(0, 600)")
    before = (page.url, column(page, "method"), told(page))
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert (page.url, column(page, "method"), told(page)) == before
    assert page.input_value('[data-filter="quality"]') == "<0.75"
    assert not page.is_checked("#group")
    assert "1 run selected" in page.text_content("#tray")
    assert page.evaluate("scrollY") == pytest.approx(600, abs=2)


def test_every_data_set_shows_its_own(page: Any) -> None:
    page.get_by_text("Show all of them in the table").click()
    assert told(page) == "200 configurations"
    assert {"minilm", "bert_tiny"} == set(column(page, "model"))
    assert page.locator("#pareto-body .empty").is_visible()  # no common axis
    page.locator("#pareto-body .empty button").nth(1).click()
    assert told(page) == "50 configurations"
    assert page.locator('[data-panel="bytes"] .plot').is_visible()
