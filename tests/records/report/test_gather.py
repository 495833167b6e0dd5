"""What the page is made of: curves, groups, and one file that holds them."""

import json
import time
from pathlib import Path

from gossamer.records import compare
from gossamer.records import record as records
from gossamer.records.report import build, curves
from gossamer.records.report.gather import gather
from tests.records import synthetic
from tests.records.examples import done


def test_a_short_curve_is_kept_whole() -> None:
    assert curves.thin([1, 2, 3], [0.5, None, 0.25]) == ([1, 2, 3], [0.5, None, 0.25])


def test_a_long_curve_keeps_its_ends_and_its_spikes() -> None:
    values: list[float | None] = [float(n % 7) for n in range(5000)]
    values[1234], values[4321] = 99.0, -99.0
    steps, thinned = curves.thin(list(range(5000)), values)
    assert len(steps) <= curves.POINTS and steps == sorted(set(steps))
    assert steps[-1] == 4999 and 1234 in steps and 4321 in steps
    assert thinned[steps.index(1234)] == 99.0


def test_a_torn_line_and_what_is_not_finite_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(
        '{"step": 1, "time": 5, "a": 0.123456789}\n{"step": 2, "a": "nan"}\n{"step": 3, '
    )
    assert curves.read(file) == ({"a": ([1, 2], [0.12346, None])}, False)
    assert curves.read(tmp_path / "missing") == ({}, False)


def test_a_huge_file_is_thinned_and_its_validation_is_kept(tmp_path: Path) -> None:
    lines = [json.dumps({"step": n, "train/loss": n % 101}) for n in range(3 * curves.LINES)]
    lines[7777] = json.dumps({"step": 7777, "validation/loss": 0.5})
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    found, thinned = curves.read(tmp_path / "metrics.jsonl")
    assert thinned and found["validation/loss"] == ([7777], [0.5])
    assert 100 < len(found["train/loss"][0]) <= curves.POINTS


def test_a_run_repeated_under_another_name_counts_once(tmp_path: Path) -> None:
    for name, day in (("old", "01"), ("new", "02")):
        record = done(name=name, finished=f"2026-01-{day}T00:00:00+00:00")
        records.write(tmp_path / name / "record.json", record)
    data = gather([tmp_path], compare.find([tmp_path]))
    assert [run["name"] for run in data["runs"]] == ["new"]
    assert any("the same run as" in note for note in data["notes"])


def test_seeds_share_their_configuration_and_axes_are_what_varies(tmp_path: Path) -> None:
    for n, (rate, seed) in enumerate([(0.1, 1), (0.1, 2), (0.2, 1)]):
        record = done(
            seed=seed,
            id=f"r{rate}-s{seed}",
            config_digest=f"r{rate}",
            config={
                "seed": seed,
                "name": f"n{n}",
                "trainer": {"lr": rate, "steps": 10, "progress": n == 0, "checkpoint_every": n},
                "twin_config": {"trainer": {"lr": rate}},
            },
        )
        records.write(tmp_path / str(n) / "record.json", record)
    data = gather([tmp_path], compare.find([tmp_path]))
    assert data["axes"] == ["trainer.lr"]
    assert sorted(group["label"] for group in data["groups"]) == ["dsee · lr 0.1", "dsee · lr 0.2"]
    assert sorted(len(group["members"]) for group in data["groups"]) == [1, 2]
    assert "seed" not in data["configs"][0]


def test_2000_runs_are_a_page_under_15_mb_in_under_10_seconds(tmp_path: Path) -> None:
    synthetic.write(tmp_path, 2000)
    start = time.process_time()  # the machine's other work does not count
    page = build([tmp_path], tmp_path / "report.html")
    assert time.process_time() - start < 10
    assert page.stat().st_size < 15e6
