"""gossamer report, from the command line; and a page that is written while runs go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli import main
from gossamer.records import record as records
from gossamer.records.report import watch
from tests.records.examples import done, failed
from tests.records.report.conftest import Watched


def put(root: Path, seed: int) -> None:
    records.write(root / f"seed{seed}" / "record.json", done(seed=seed, id=f"abc-s{seed}"))


def test_it_writes_a_page_and_says_what_is_in_it(tmp_path: Path, capsys: Any) -> None:
    put(tmp_path / "runs", 1)
    records.write(tmp_path / "runs" / "cut" / "record.json", failed(id="cut"))
    page = tmp_path / "new" / "report.html"
    assert main(["report", str(tmp_path / "runs"), "-o", str(page)]) == 0
    assert f"{page}: 1 runs, 1 unfinished, " in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_nothing_found_is_no_page_and_a_hint(tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path), "-o", str(page)]) == 1
    assert "no record.json below; start a run" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing"], "PATH=missing: no such file or directory"),
        ([".", "-o", "record.json"], "-o record.json: a page's name ends in .html"),
        ([".", "-o", "folder.html"], "-o folder.html: is a directory"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch: Any, capsys: Any, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "record.json").write_text("{}")
    assert main(["report", *arguments]) == 2
    assert capsys.readouterr().err.startswith(told)
    assert (tmp_path / "record.json").read_text() == "{}"


def test_watching_every_0_seconds_is_refused(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(tmp_path), "--watch", "0"])
    assert stopped.value.code == 2 and "--watch 30" in capsys.readouterr().err


def test_it_imports_no_torch_no_pandas_and_not_all_of_plotly(tmp_path: Path) -> None:
    put(tmp_path, 1)
    code = (
        "import sys; from gossamer.cli import main; "
        f"main(['report', {str(tmp_path)!r}, '-o', {str(tmp_path / 'report.html')!r}]); "
        "print(sorted({'torch', 'numpy', 'pandas', 'plotly'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_only_a_change_of_what_is_shown_is_a_change(tmp_path: Path) -> None:
    put(tmp_path, 1)
    before = watch.state([tmp_path])
    (tmp_path / "seed1" / "train.log").write_text("a line")
    assert watch.state([tmp_path]) == before
    (tmp_path / "seed1" / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n')
    after = watch.state([tmp_path])
    assert after != before
    put(tmp_path, 2)
    assert watch.state([tmp_path]) != after


def test_the_runs_of_a_watched_sweep_are_watched_where_they_are(tmp_path: Path) -> None:
    sweep, run = tmp_path / "outputs" / "sweeps" / "abc", "outputs/name/0123/seed1"
    sweep.mkdir(parents=True)
    manifest = {"cwd": str(tmp_path), "jobs": [{"directory": run}]}
    (sweep / "sweep.json").write_text(json.dumps(manifest))
    before = watch.state([sweep])
    (tmp_path / run).mkdir(parents=True)
    (tmp_path / run / "metrics.jsonl").write_text("{}\n")
    assert watch.state([sweep]) != before


def test_a_watched_page_refreshes_itself_and_keeps_what_was_chosen(
    tmp_path: Path, browser: Any
) -> None:
    runs, page_file = tmp_path / "runs", tmp_path / "report.html"
    put(runs, 1)
    put(runs, 2)
    command = [sys.executable, "-m", "gossamer.cli", "report", str(runs), "-o", str(page_file)]
    process = subprocess.Popen([*command, "--watch", "1"], env={**os.environ, "COLUMNS": "80"})
    try:
        _wait_for(page_file.exists)
        context = browser.new_context(viewport={"width": 1200, "height": 500})
        watched = Watched(context)
        page = watched.open(page_file)
        page.uncheck("#group")
        page.click('th[data-id="seed"] button')
        page.locator("#rows tr").nth(1).click()
        page.fill("#search", "dse")
        page.evaluate("window.scrollTo(0, 400); window.typed = true")
        put(runs, 3)
        page.wait_for_timeout(4500)
        assert page.evaluate("window.typed")  # it waits for whoever is typing
        page.evaluate("document.activeElement.blur()")
        page.locator("#rows tr").nth(2).wait_for(state="attached", timeout=20_000)
        page.wait_for_selector("html[data-ready]")
        assert page.evaluate("window.typed") is None
        assert page.input_value("#search") == "dse" and not page.is_checked("#group")
        assert page.get_attribute('th[data-id="seed"]', "aria-sort") == "descending"
        assert page.locator('#rows tr[aria-selected="true"]').count() == 1
        assert page.evaluate("scrollY") == pytest.approx(400, abs=2)
        assert watched.said == []
        context.close()
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=30)
    assert status == 0
    last = Watched(browser.new_context()).open(page_file)
    assert last.locator("#pause").count() == 0  # the last page stays as it is
    last.context.close()


def _wait_for(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
