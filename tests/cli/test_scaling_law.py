"""gossamer scaling-law through the door: what is printed, and the page."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli import main
from tests.records.budgets import power, runs, write

HOSTILE = "<img src=x onerror=alert(1)>\x1b[2J"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods at four budgets, a third at two, three seeds each."""
    root = tmp_path_factory.mktemp("outputs")
    write(root, runs(power()) + runs(power(10), method="ast"))
    return write(root, runs(power(), steps=(250, 500), method="sr_ste"))


def test_the_table_has_budgets_laws_and_what_they_say(outputs: Path, capsys: Any) -> None:
    assert main(["scaling-law", str(outputs), "--at", "4e6", "1e9"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "ast on llama_tiny × stdlib (language_modelling)"
    assert lines[1] == (
        "gap: compressed - dense in loss (nats per token), to the dense model, continued for the "
        "same steps"
    )
    (head, *_) = [line for line in lines if line.startswith("law")]
    assert re.split(r"\s{2,}", head)[-2:] == ["at 4.00 M", "at 1.00 G*"]
    assert sum(line.startswith("power ←") for line in lines) == 2
    assert sum(line.startswith("* extrapolated:") for line in lines) == 2
    (refused,) = [line for line in lines if line.startswith("not fitted: sr_ste")]
    assert "trainer.steps=250,500,1000,2000 seed=1,2,3" in refused
    assert told.err == ""


def test_json_has_everything_by_name(outputs: Path, capsys: Any) -> None:
    assert main(["scaling-law", str(outputs), "--format", "json", "--at", "1e9"]) == 0
    told = capsys.readouterr()
    first, second = json.loads(told.out)
    assert "not fitted: sr_ste" in told.err
    assert set(first) == set(second) == {
        "title", "model", "dataset", "task", "compression", "by", "averages_over", "apart",
        "metric", "unit", "direction", "gap", "twin", "start", "base_steps", "x", "runs", "seeds",
        "not_positive", "points", "budgets", "level", "resamples", "drawn", "laws", "not_fitted",
        "preferred", "verdict",
    }  # fmt: skip
    assert first["compression"] == "ast" and first["x"] == "tokens" and first["seeds"] == [1, 2, 3]
    assert set(first["points"][0]) == {"x", "seed", "gap", "runs"}
    assert set(first["budgets"][0]) == {"x", "n", "gap", "interval"}
    law = first["laws"][0]
    assert set(law) == {"law", "formula", "parameters", "r2", "aicc", "left_out_error", "at"}
    assert law["parameters"]["b"]["low"] < 0.3 < law["parameters"]["b"]["high"]
    assert set(law["at"][0]) == {"x", "value", "low", "high", "extrapolated"}


def test_csv_has_a_row_for_each_law(outputs: Path, capsys: Any) -> None:
    assert (
        main(["scaling-law", str(outputs), "--format", "csv", "--at", "1e9", "--x", "steps"]) == 0
    )
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["law"] for row in table[:4]] == [
        "power", "power + floor", "exponential", "logarithmic",
    ]  # fmt: skip
    assert len(table) == 8 and {row["budgets"] for row in table} == {"250 500 1000 2000"}
    assert float(table[0]["b low"]) < float(table[0]["b"]) < float(table[0]["b high"])
    assert table[0]["at 1e+09 extrapolated"] == "True" and table[0]["c"] == ""


def test_budgets_that_are_too_few_are_status_1(tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "scaling.html"
    write(tmp_path, runs(power(), steps=(250, 500)))
    assert main(["scaling-law", str(tmp_path), "-o", str(page)]) == 1
    assert "a law takes at least 3 different ones" in capsys.readouterr().out
    assert not page.exists()
    assert main(["scaling-law", str(tmp_path / "record.json")]) == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["scaling-law", str(empty), "--format", "json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == [] and "no finished run's record.json below" in told.err


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--metric", "los"], "--metric los: no run has such a test metric, did you mean loss?"),
        (["--by", "lr"], "--by lr: no run has such a key, did you mean trainer.lr?"),
        (["-o", "record.json"], "-o record.json: a page's name ends in .html: -o scaling.html"),
    ],
)
def test_a_wrong_flag_is_one_line_and_status_2(outputs: Path, capsys: Any, flags, line) -> None:
    assert main(["scaling-law", str(outputs), *flags]) == 2
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize("budget", ["0", "-1", "many", "inf"])
def test_a_budget_that_is_none_is_refused(outputs: Path, capsys: Any, budget: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["scaling-law", str(outputs), f"--at={budget}"])
    assert stopped.value.code == 2 and "--at 7.5e9" in capsys.readouterr().err


def test_it_imports_no_torch_and_its_help_no_numpy(outputs: Path) -> None:
    for words, heavy in (
        ([str(outputs)], {"torch", "pandas", "plotly", "hydra", "duckdb"}),
        (["--help"], {"torch", "numpy", "scipy"}),
    ):
        code = (
            f"import sys; from gossamer.cli import main\n"
            f"try: main({['scaling-law', *words]!r})\n"
            f"except SystemExit: pass\n"
            f"print(sorted({heavy!r} & sys.modules.keys()))"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def test_text_of_records_is_inert(tmp_path: Path, capsys: Any) -> None:
    write(tmp_path, runs(power(), choices__model=HOSTILE))
    page = tmp_path / "scaling.html"
    assert main(["scaling-law", str(tmp_path), "-o", str(page)]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told and "\\x1b[2J" in told
    text = page.read_text(encoding="utf-8")
    assert "onerror" not in text.partition("</style>")[2].partition("<script>")[0]
    assert "script-src 'sha256-" in text


@pytest.fixture(scope="module")
def browser() -> Any:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium: scripts/browser.sh installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


def test_the_page_shows_points_laws_and_both_scales(tmp_path: Path, browser: Any) -> None:
    below = runs(lambda t: 0.05 - 1e-8 * t, noise=0.01, choices__model=HOSTILE)
    write(tmp_path, runs(power(), method="ast") + below)
    file = tmp_path / "scaling.html"
    assert main(["scaling-law", str(tmp_path), "-o", str(file), "--at", "1e8"]) == 0
    said: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 1200, "height": 1800})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    page.wait_for_function("document.querySelectorAll('[data-state=drawn]').length === 2")

    def drawn(place: int) -> dict[str, Any]:
        return page.evaluate(
            """(n) => { const plot = document.querySelectorAll('.plot')[n];
                return {type: plot._fullLayout.yaxis.type, shapes: plot._fullLayout.shapes.length,
                    names: plot.data.map(({name}) => name),
                    seeds: plot.data.find(({name}) => name === 'seeds').y}; }""",
            place,
        )

    first, second = drawn(0), drawn(1)
    assert first["type"] == "log" and len(first["seeds"]) == 12
    assert {"power", "power band", "power + floor", "seeds", "means"} <= set(first["names"])
    assert len(second["seeds"]) < 12  # those that a logarithm has a place for
    assert "at or below 0" in page.text_content("main section:nth-of-type(2) figcaption")
    page.click("#scale")
    page.wait_for_function("document.querySelectorAll('[data-state=drawn]').length === 2")
    second = drawn(1)
    assert second["type"] == "linear" and second["shapes"] == 1 and len(second["seeds"]) == 12
    page.click('[data-box="power"] >> nth=0')
    page.wait_for_function("document.querySelectorAll('[data-state=drawn]').length === 2")
    assert "power" not in drawn(0)["names"]
    assert page.locator("img").count() == 0 and "<img src=x" in page.text_content("main")
    assert said == [] and all(url.startswith(("file:", "data:", "blob:")) for url in asked)
