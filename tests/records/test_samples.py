"""Tests row by row: against whom, of which rows, and what is said where there can be none."""

import json
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from gossamer.records import predictions, samples
from gossamer.records import record as records
from gossamer.records.compare import Asked, compared, main
from gossamer.records.find import skim
from tests.records.examples import done

ROWS = 200
LABELS = np.arange(ROWS) % 2


def guesses(right: float, seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    prediction = np.where(draw.random(ROWS) < right, LABELS, 1 - LABELS)
    return {"prediction": prediction, "label": LABELS, "loss": (prediction != LABELS) * 1.5}


def put(
    root: Path,
    method: str,
    seed: int,
    mine: dict[str, Any] | None,
    twin: dict[str, Any] | None = None,
    data: str = "data",
    **changes: Any,
) -> Path:
    folder = root / method / str(seed)
    figures, files = {}, {}
    for side, rows in (("compressed", mine), ("dense", twin)):
        files[side] = None if rows is None else f"{side}.safetensors"
        rows = rows or guesses(0.5, 0)
        right = float((rows["prediction"] == rows["label"]).mean())
        figures[side] = {"accuracy": right, "loss": float(rows["loss"].mean())}
        folder.mkdir(parents=True, exist_ok=True)
        if name := files[side]:
            tensors = {key: torch.as_tensor(value) for key, value in rows.items()}
            predictions.write(folder / name, tensors, data)
    record = done(
        seed=seed,
        id=f"{method}-{seed}",
        config_digest=method,
        choices__compression=[] if method == "none" else [method],
        quality__compressed=figures["compressed"],
        quality__dense=figures["dense"],
        quality__predictions=files,
    )
    for path, value in changes.items():
        record["quality"][path] = value
    records.write(folder / "record.json", record)
    return folder


def told(root: Path, **asked: Any) -> tuple[dict[str, Any], list[str]]:
    rows, notes = compared(skim([root]), Asked(samples=True, **asked))
    return {row["compression"]: row["samples"] for row in rows}, notes


def test_accuracy_is_tested_by_mcnemar_against_the_twin(tmp_path: Path) -> None:
    mine, twin = guesses(0.9, 1), guesses(0.7, 2)
    put(tmp_path, "lora", 1, mine, twin)
    rows, notes = told(tmp_path)
    (seed,) = rows["lora"]["accuracy"]["seeds"]
    right, rights = mine["prediction"] == LABELS, twin["prediction"] == LABELS
    better, worse = int((right & ~rights).sum()), int((rights & ~right).sum())
    assert (seed["better"], seed["worse"], seed["rows"]) == (better, worse, ROWS)
    assert seed["test"] == "McNemar" and seed["difference"] == (better - worse) / ROWS
    assert seed["p"] == pytest.approx(stats.binomtest(better, better + worse).pvalue)
    assert notes == []


def test_every_seed_is_told_and_the_least_favourable_counts(tmp_path: Path) -> None:
    put(tmp_path, "lora", 1, guesses(0.9, 1), guesses(0.5, 2))
    put(tmp_path, "lora", 2, guesses(0.7, 3), guesses(0.7, 4))
    rows, _ = told(tmp_path)
    first, second = (seed["p"] for seed in rows["lora"]["accuracy"]["seeds"])
    assert first < 1e-6 and second > 0.05 and rows["lora"]["accuracy"]["p"] == second


def test_with_a_baseline_the_partner_of_the_same_seed_is_the_other(tmp_path: Path) -> None:
    for seed in (1, 2):
        put(tmp_path, "none", seed, guesses(0.9, seed), guesses(0.1, 9))
        put(tmp_path, "lora", seed, guesses(0.9, seed), guesses(0.1, 9))
    rows, notes = told(tmp_path, baseline=("compression=none",))
    assert [seed["p"] for seed in rows["lora"]["accuracy"]["seeds"]] == [1.0, 1.0]
    assert rows["none"] == {} and notes == []


def test_other_metrics_are_bootstrapped_over_rows_with_an_interval(tmp_path: Path) -> None:
    put(tmp_path, "lora", 1, guesses(0.9, 1), guesses(0.7, 2))
    rows, _ = told(tmp_path, metrics=("loss", "accuracy", "size.parameters"))
    assert set(rows["lora"]) == {"loss", "accuracy"}
    (seed,) = rows["lora"]["loss"]["seeds"]
    assert seed["test"] == "bootstrap" and seed["low"] < seed["difference"] < seed["high"] < 0
    assert seed["p"] <= 0.002
    assert told(tmp_path, metrics=("loss",))[0]["lora"]["loss"]["seeds"] == [seed]


def test_a_difference_within_its_noise_has_an_interval_around_zero(tmp_path: Path) -> None:
    put(tmp_path, "lora", 1, guesses(0.7, 1), guesses(0.7, 3))
    (seed,) = told(tmp_path, metrics=("loss",))[0]["lora"]["loss"]["seeds"]
    assert seed["low"] < 0 < seed["high"] and seed["p"] > 0.05


def test_dense_runs_are_not_tested_against_themselves(tmp_path: Path) -> None:
    put(tmp_path, "none", 1, guesses(0.9, 1), guesses(0.9, 1))
    assert told(tmp_path) == ({"none": {}}, [])


def spoiled(root: Path, how: str) -> None:
    mine, twin = guesses(0.9, 1), guesses(0.7, 2)
    match how:
        case "mine":
            put(root, "lora", 1, None, twin)
        case "twin":
            put(root, "lora", 1, mine, None)
        case "gone":
            (put(root, "lora", 1, mine, twin) / "dense.safetensors").unlink()
        case "damaged":
            (put(root, "lora", 1, mine, twin) / "dense.safetensors").write_bytes(b"no")
        case "label" | "prediction" | "loss" | "length" | "empty":
            folder = put(root, "lora", 1, mine, twin)
            rows = {name: torch.as_tensor(value) for name, value in twin.items()}
            if how in rows:
                del rows[how]
            else:
                rows["loss"] = rows["loss"][:-1]
                rows = {n: v[:0] for n, v in rows.items()} if how == "empty" else rows
            predictions.write(folder / "dense.safetensors", rows, "data")
        case "data" | "fewer":
            folder = put(root, "lora", 1, mine, twin)
            kept = slice(None) if how == "data" else slice(ROWS // 2)
            rows = {name: torch.as_tensor(value[kept].copy()) for name, value in twin.items()}
            predictions.write(folder / "dense.safetensors", rows, "other" if how == "data" else "")
            if how == "fewer":
                record = records.read(folder / "record.json")
                right = float((rows["prediction"] == rows["label"]).double().mean())
                record["quality"]["dense"]["accuracy"] = right
                records.write(folder / "record.json", record)
        case "stale":
            put(root, "lora", 1, mine, twin, compressed={"accuracy": 0.5, "loss": 0.5})


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("mine", "the run kept no predictions"),
        ("twin", "what it is compared with kept no predictions"),
        ("gone", "dense.safetensors: cannot be read"),
        ("damaged", "dense.safetensors: cannot be read"),
        ("label", "dense.safetensors: cannot be read: File does not contain tensor label"),
        ("prediction", "dense.safetensors: cannot be read: File does not contain tensor pred"),
        ("loss", "dense.safetensors: cannot be read: File does not contain tensor loss"),
        ("length", "dense.safetensors: no values per test row: prediction (200,), label (200,), "),
        ("empty", "dense.safetensors: no values per test row: prediction (0,), label (0,)"),
        ("data", "of other test rows"),
        ("fewer", "of other test rows"),
        ("stale", "not those of the record: accuracy is 0.9"),
    ],
)
def test_what_cannot_be_tested_is_said_in_a_line(tmp_path: Path, how: str, why: str) -> None:
    spoiled(tmp_path, how)
    rows, notes = told(tmp_path)
    assert rows == {"lora": {}}
    (note,) = notes
    assert note.startswith("no test by row: minilm docstrings classification lora (lora), seed 1: ")
    assert why in note


def test_only_so_many_files_are_in_memory_and_the_baselines_are_read_once(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(samples, "KEPT", 4)
    alive: list[weakref.ref[Any]] = []
    names: list[str] = []
    most = 0

    def read(path: Path) -> tuple[dict[str, Any], str]:
        nonlocal most
        rows, data = predictions.read(path)
        alive.append(weakref.ref(rows["label"]))
        names.append(str(path.relative_to(tmp_path)))
        most = max(most, sum(reference() is not None for reference in alive))
        return rows, data

    for method in ("none", *(f"method{n}" for n in range(10))):
        put(tmp_path, method, 1, guesses(0.8, 1))
    asked = Asked(samples=True, baseline=("compression=none",))
    monkeypatch.setattr(samples, "predictions", SimpleNamespace(read=read, truth=predictions.truth))
    table, notes = compared(skim([tmp_path]), asked)
    assert sum(bool(row["samples"]) for row in table) == 10 and notes == []
    assert len(names) == len(set(names)) == 11 and most <= 4 + 2  # two are in hand


def test_the_table_shows_the_least_favourable_p(tmp_path: Path, capsys) -> None:
    put(tmp_path, "lora", 1, guesses(0.9, 1), guesses(0.5, 2))
    put(tmp_path, "lora", 2, guesses(0.7, 3), guesses(0.7, 3))
    main([str(tmp_path)], "table", Asked(samples=True))
    head, row = capsys.readouterr().out.splitlines()[1:3]
    place = head.index("p by row") + len("p by row")
    assert row[:place].split()[-1] == "1"
    main([str(tmp_path)], "csv", Asked(samples=True))
    assert "accuracy rows p" in capsys.readouterr().out
    main([str(tmp_path)], "json", Asked(samples=True))
    (told,) = json.loads(capsys.readouterr().out)
    assert [seed["seed"] for seed in told["samples"]["accuracy"]["seeds"]] == [1, 2]


def test_numpy_is_imported_only_for_tests_by_row(tmp_path: Path) -> None:
    put(tmp_path, "lora", 1, guesses(0.9, 1), guesses(0.5, 2))
    code = (
        "import sys; from gossamer.records.compare import Asked, main;"
        f"main([{str(tmp_path)!r}], 'csv', Asked(baseline=['compression=lora'], by=['model']));"
        "print([m for m in ('numpy', 'torch', 'duckdb', 'rich') if m in sys.modules]);"
        f"main([{str(tmp_path)!r}], 'csv', Asked(samples=True));"
        "print([m for m in ('numpy', 'torch', 'scipy') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in ran.stdout.splitlines() if line[0] == "["] == ["[]", "['numpy']"]
