"""The page of a run that chose what attention sees, in a browser."""

from pathlib import Path
from typing import Any

from gossamer.records import record as records
from gossamer.records.report import build
from tests.records.examples import attentive, done
from tests.records.report.conftest import Watched
from tests.records.report.looking import column, drawn


def test_maps_ledger_and_recalls_are_shown(browser: Any, tmp_path: Path) -> None:
    old = done(id="def-s1", config_digest="def", choices__compression=["lora"])
    for record in (attentive(), old):
        records.write(tmp_path / record["id"] / "record.json", record)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    watched = Watched(context)
    page = watched.open(build([tmp_path], tmp_path / "report.html"))
    assert dict(zip(column(page, "method"), column(page, "attention.saved"), strict=True)) == {
        "sparsifiner": "48.0",
        "lora": "–",
    }
    assert set(column(page, "attention.model")) == {"3.6", "–"}
    assert drawn(page, '[data-layers="bits"] .plot') and drawn(page, '[data-panel="macs"] .plot')
    page.select_option('[data-panel="macs"] select', label="of attention, batch 1")
    assert [len(trace["x"]) for trace in drawn(page, '[data-panel="macs"] .plot')] == [1, 1]

    page.evaluate(f"location.hash = '#run={attentive()['id']}'")
    page.wait_for_selector("#run h2")
    ledger = page.text_content("#run .ledger.theoretical")
    assert "52.0%" in ledger and "96.4%" in ledger, "of attention, and of the whole model"
    assert "25.8%" in ledger and "93.0%" in ledger
    page.eval_on_selector_all("#run details", "all => all.forEach((one) => { one.open = true; })")
    maps = page.text_content('[aria-label="Attention maps"]')
    assert "blocks.1.attn" in maps and "6 × 197 × 197" in maps
    assert "blocks.1.attn" not in page.text_content('[aria-label="Layers"]')
    assert "0.75" in page.text_content('[aria-label="sparsifiner.sparsify by layer"]')
    recalls = drawn(page, "#run-stages .plot")
    assert {trace["name"]: trace["y"] for trace in recalls} == {
        "recall": [0.5, 0.75],
        "oracle recall": [0.9, 1.0],
    }
    page.evaluate("location.hash = '#run=def-s1'")
    page.wait_for_selector("#run h2:has-text('lora')")
    assert "attention" not in page.text_content("#run .ledger.theoretical")
    assert page.locator("#run-stages .plot").count() == 0
    assert watched.said == []
    context.close()
