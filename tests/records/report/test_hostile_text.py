"""Text from records stays text, whatever it says."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gossamer.records import record as records
from gossamer.records.report import build
from tests.records.examples import done, failed
from tests.records.report.conftest import Watched
from tests.records.report.looking import by_run, drawn, hover_point

SCRIPT = "</script><script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(1)>"
METHOD = f"{IMAGE}<a href='//e'>x</a>"  # plotly would make a link of it


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    for seed in (1, 2):
        record = done(
            id=f"evil-s{seed}",
            seed=seed,
            name=SCRIPT,
            overrides=[f"name={SCRIPT}", IMAGE],
            choices={"model": IMAGE, "dataset": SCRIPT, "task": "x", "compression": [METHOD]},
            host=SCRIPT,
            config={"trainer": {IMAGE: SCRIPT, "lr": [0.1, 0.2][seed - 1]}},
            config_digest=f"evil{seed}",
            quality__primary=IMAGE,
            quality__dense={IMAGE: 0.5},
            quality__compressed={IMAGE: 0.5 + seed / 10},
        )
        record["layers"][0] |= {"name": SCRIPT, "pattern": IMAGE, "skipped": IMAGE}
        record["checks"][0] |= {"name": IMAGE, "figure": SCRIPT}
        record["stages"][0]["name"] = IMAGE
        record["speed"][0]["device"] = IMAGE
        folder = root / str(seed)
        records.write(folder / "record.json", record)
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, IMAGE: 0.5}) + "\n")
        (folder / "environment.json").write_text(json.dumps({SCRIPT: IMAGE}))
    records.write(root / "cut" / "record.json", failed(id="cut-s1", error=SCRIPT, name=SCRIPT))
    return build([root], tmp_path_factory.mktemp("page") / "report.html")


def test_no_text_of_a_record_is_in_the_file_but_packed(hostile: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    assert "alert(1)" not in text and text.count("</script>") == 3
    packed = re.search(r'id="data">([^<]*)<', text)
    assert packed is not None and re.fullmatch(r"[A-Za-z0-9+/=]+", packed[1])
    assert "alert(1)" in gzip.decompress(base64.b64decode(packed[1])).decode()


def test_a_record_named_like_a_script_is_shown_as_it_is_named(browser: Any, hostile: Path) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    watched = Watched(context)
    page = watched.open(hostile)
    by_run(page)
    assert page.locator("script").count() == 3 and page.locator("img").count() == 0
    assert IMAGE in page.text_content("#rows")
    assert page.text_content(".card h3") == f"{IMAGE} × {SCRIPT}"
    for place in (
        '[data-panel="bytes"]',
        '[data-curve="0"]',
        '[data-layers="density"]',
        "#axes-body",
    ):
        drawn(page, f"{place} .plot")
    hover_point(page, '[data-panel="bytes"] .plot', 1, 0)
    hover = page.locator('[data-panel="bytes"] .hoverlayer')
    hover.filter(has_text=METHOD).wait_for(state="attached")
    assert page.locator(".plot img, .plot script").count() == 0
    assert IMAGE in page.text_content('[data-panel="bytes"] .plot')  # the axis names the metric
    assert SCRIPT in page.text_content("#unfinished-body")
    for key, title in (("evil-s1", f"{METHOD} · lr 0.1 · seed 1"), ("cut-s1", "dsee · seed 1")):
        page.evaluate(f"location.hash = '#run={key}&diff=evil-s2'")
        page.locator("#run h2").get_by_text(title).wait_for()
        assert SCRIPT in page.text_content("#run .command" if key == "evil-s1" else "#run .error")
        assert page.locator("script").count() == 3 and page.locator("main img").count() == 0
    assert watched.said == []
    context.close()


def test_the_page_may_run_nothing_but_its_own(browser: Any, hostile: Path) -> None:
    """Even an element that got in would not run, nor would anything be fetched."""
    context = browser.new_context()
    watched = Watched(context)
    page = watched.open(hostile)
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
        }"""
    )
    assert page.evaluate("window.ran") is None
    refused = page.evaluate("fetch('https://example.org/').then(() => 'fetched', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in line for line in watched.said)
    context.close()
