"""The saved view of a wandb project, as plain data and in wandb's own words; nothing is saved."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.records.wandb_content import SEEDS, frozen, identity, summary
from tests.records.examples import done

SCRIPT = Path(__file__).parents[2] / "scripts" / "wandb_workspace.py"
HISTORY = {"train/loss": 0.5, "train/lr": 1e-4, "validation/accuracy": 0.7, "_step": 10}


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def told() -> dict:
    """What wandb has as the summary of a run: its figures, and the last of each logged metric."""
    return {**HISTORY, **summary(done())}


def plots(view) -> list:
    return [plot for plots in view.sections.values() for plot in plots]


def test_every_name_in_the_view_is_one_that_wandb_is_told(script: dict, told: dict) -> None:
    view = script["view"](told)
    names = {name for plot in plots(view) for name in (*plot.y, *filter(None, [plot.x]))}
    assert names | set(view.columns) <= told.keys()
    assert view.groups == SEEDS and view.groups in identity(frozen(done()))["config"]


def test_quality_is_plotted_against_bytes_latency_macs_and_parameters(script, told) -> None:
    scatter = {plot.x: plot for plot in plots(script["view"](told)) if plot.kind == "scatter"}
    assert set(scatter) == {
        "size/checkpoint_bytes",
        "compute/macs_effective",
        "size/trainable_parameters",
        "speed/batch 1/compressed/p50",
    }
    assert {plot.y for plot in scatter.values()} == {("quality/compressed/accuracy",)}


def test_curves_and_stages_are_there_and_a_dense_run_has_no_stage(script, told) -> None:
    view = script["view"](told)
    assert [plot.y for plot in view.sections["Curves"]] == [
        ("train/loss",),
        ("train/lr",),
        ("validation/accuracy",),
    ]
    assert view.sections["Stages"][0].y == ("stages/1 dsee.train/accuracy",)
    dense = {name: value for name, value in told.items() if not name.startswith("stages/")}
    assert "Stages" not in script["view"](dense).sections


def test_wandb_s_package_takes_the_view(script: dict, told: dict) -> None:
    pytest.importorskip("wandb_workspaces", reason="pip install 'gossamer[wandb]'")
    view = script["view"](told)
    model = script["workspace"](view, "me", "paper")._to_model()
    text = model.model_dump_json(by_alias=True)
    sections = json.loads(text)["spec"]["section"]["panelBankConfig"]["sections"]
    assert [len(section["panels"]) for section in sections] == list(
        map(len, view.sections.values())
    )
    assert f"config:{SEEDS}" in text or SEEDS in text
    assert "summary:size/checkpoint_bytes" in text


def test_without_a_key_or_the_package_one_line_says_what_to_type(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")}
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "paper"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    there = importlib.util.find_spec("wandb_workspaces") is not None
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ("wandb login" if there else "gossamer[wandb]") in ended.stderr
