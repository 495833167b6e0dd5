"""What is found below a path, sweeps and runs that are still being written included."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gossamer.records import find
from gossamer.records import record as records
from gossamer.sweep import jobs
from tests.records.examples import done, failed

WRITER = """
import itertools, os, shutil, sys
from pathlib import Path
from gossamer.records import record as records
from tests.records.examples import done, failed
root = Path(sys.argv[1])
print("begun", flush=True)
for turn in itertools.count():
    for seed in range(1, 31):
        path = root / f"seed{seed}" / "record.json"
        kind = failed() if (turn + seed) % 3 == 0 else done(seed=seed, id=f"x-s{seed}")
        records.write(path, kind)
        if (turn + seed) % 5 == 0:
            shutil.rmtree(path.parent)
"""


def put(folder: Path, record: dict | None = None) -> Path:
    records.write(folder / "record.json", record or done())
    return folder / "record.json"


def sweep(folder: Path, directories: list[str], cwd: Path) -> Path:
    folder.mkdir(parents=True)
    jobs = [{"key": str(n), "overrides": [], "directory": d} for n, d in enumerate(directories)]
    (folder / "sweep.json").write_text(json.dumps({"jobs": jobs, "cwd": str(cwd)}))
    return folder


def seeds(*numbers: int, root: Path) -> list[str]:
    """Finished runs below `root`/outputs, and their directories as a sweep notes them."""
    for number in numbers:
        record = done(seed=number, id=f"abc-s{number}")
        put(root / "outputs" / "name" / "abc" / f"seed{number}", record)
    return [f"outputs/name/abc/seed{number}" for number in numbers]


def test_a_skimmed_record_says_what_the_whole_one_says(tmp_path: Path) -> None:
    path = put(tmp_path / "a")
    whole, skimmed = find.find([tmp_path]).records[path], find.skim([tmp_path]).records[path]
    assert whole == done()
    for name in ("seed", "overrides", "config_digest", "speed", "status", "id"):
        assert getattr(skimmed, name) == whole[name]
    assert skimmed.quality.compressed == whole["quality"]["compressed"]
    assert json.loads(bytes(skimmed.config)) == whole["config"]


def test_a_skimmed_record_keeps_no_file_in_memory(tmp_path: Path) -> None:
    path = put(tmp_path / "a")
    skimmed = find.skim([tmp_path]).records[path]
    assert bytes(skimmed.layers) == b"null"


@pytest.mark.parametrize("look", [find.find, find.skim])
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("layers", None),
        ("layers", {}),
        ("stages", 3),
        ("checks", "a"),
        ("artifacts", None),
        ("versions", 3),
        ("config", []),
        ("size", {}),
        ("extra", 1),
        ("speed", [{}]),
    ],
)
def test_a_record_that_is_wrong_anywhere_is_left_out_by_name(tmp_path, look, name, wrong) -> None:
    path = put(tmp_path / "a")
    record = done()
    if name == "layers" and wrong is None:
        del record["layers"]
    else:
        record[name] = wrong
    path.write_text(json.dumps(record))
    found = look([tmp_path])
    assert found.records == {}
    (line,) = found.notes
    assert line.startswith(f"left out: {path}: not a record of this version: {name}")


@pytest.mark.parametrize("look", [find.find, find.skim])
@pytest.mark.parametrize(
    ("part", "value"),
    [
        *((part, b'"\xff"') for part in ("versions", "config", "layers")),
        *((part, b"{" * 9000) for part in ("versions", "config", "layers")),
        ("config", b'"\\ud800"'),
        ("config", b"1e999"),
    ],
)
def test_what_is_no_json_in_a_part_that_is_passed_over_is_left_out(
    tmp_path, look, part, value
) -> None:
    path = put(tmp_path / "a")
    record = json.dumps(done(**{part: {"key": "here"} if part != "layers" else ["here"]}))
    path.write_bytes(record.encode().replace(b'"here"', value))
    found = look([tmp_path])
    assert found.records == {}
    (line,) = found.notes
    assert line.startswith(f"left out: {path}: ")


def test_a_sweep_folder_stands_for_its_runs(tmp_path: Path) -> None:
    directories = seeds(1, 2, root=tmp_path)
    put(tmp_path / "outputs" / "name" / "abc" / "seed9", done(seed=9, id="abc-s9"))
    folder = sweep(tmp_path / "outputs" / "sweeps" / "x", directories, cwd=tmp_path)
    for paths in ([folder], [folder.parent], [str(folder), folder]):
        found = find.skim(paths)
        assert [record.seed for record in found.records.values()] == [1, 2]
        assert found.notes == []
    assert len(find.skim([tmp_path / "outputs"]).records) == 3


def test_a_sweep_named_from_inside_itself_finds_its_runs(tmp_path: Path, monkeypatch) -> None:
    folder = sweep(tmp_path / "outputs" / "sweeps" / "x", seeds(1, root=tmp_path), tmp_path)
    monkeypatch.chdir(folder)
    assert len(find.skim(["."]).records) == 1


def test_outputs_that_were_moved_are_found_where_they_are_now(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    name = "outputs/my/own/name/abc/seed1"
    put(tmp_path / "a" / name)
    absolute = str(tmp_path / "a" / "outputs" / "name" / "abc" / "seed2")
    put(Path(absolute), done(seed=2, id="x-s2"))
    sweep(tmp_path / "a" / "outputs" / "sweeps" / "x", [name, absolute], tmp_path / "a")
    shutil.move(tmp_path / "a" / "outputs", tmp_path / "kept")
    found = find.skim([tmp_path / "kept" / "sweeps" / "x"])
    assert [record.seed for record in found.records.values()] == [1, 2] and found.notes == []


def test_a_sweep_kept_elsewhere_finds_its_runs_where_they_were_written(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "mine", seeds(1, root=tmp_path), cwd=tmp_path)
    assert len(find.skim([folder]).records) == 1


def test_jobs_without_a_record_are_counted(tmp_path: Path) -> None:
    directories = [*seeds(1, root=tmp_path), "outputs/name/abc/seed2", "outputs/name/abc/seed3"]
    folder = sweep(tmp_path / "outputs" / "sweeps" / "x", directories, tmp_path)
    found = find.skim([folder])
    assert len(found.records) == 1
    assert found.notes == [f"not finished: 2 of 3 jobs of {folder} have no record yet"]


def test_the_manifest_that_a_sweep_writes_leads_to_its_runs(tmp_path: Path) -> None:
    """As gossamer/sweep/jobs.py writes it, with relative and absolute places, from any folder."""
    relative, absolute, none = *seeds(1, 2, root=tmp_path), "outputs/name/abc/seed3"
    folder = tmp_path / "outputs" / "sweeps" / "0123456789ab"
    places = {"a": relative, "b": str(tmp_path / absolute), "c": none}
    listed = [jobs.Job(str(folder), k, (f"seed={k}",), d, str(tmp_path)) for k, d in places.items()]
    about = {
        "command": ["-m", "seed=1,2,3"],
        "cwd": str(tmp_path),
        "options": {"on_error": "continue"},
        "code": "0" * 12,
        "git": {"commit": None, "dirty": None},
        "snapshot": None,
    }
    jobs.write(folder, listed, about, {"a": jobs.State("skipped")})
    assert jobs.known(folder) == listed
    found = find.skim([folder])
    assert [record.seed for record in found.records.values()] == [1, 2]
    assert found.notes == [f"not finished: 1 of 3 jobs of {folder} have no record yet"]


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "x", [], tmp_path)
    (folder / "sweep.json").write_text('{"jobs": [1]}')
    (line,) = find.skim([folder]).notes
    assert line.startswith(f"left out: {folder / 'sweep.json'}: damaged")


def test_what_vanishes_between_being_listed_and_being_read_was_not_there(
    tmp_path: Path, monkeypatch
) -> None:
    gone = put(tmp_path / "a")
    put(tmp_path / "b", done(id="other"))
    listed = list(find._files([tmp_path], []))
    monkeypatch.setattr(find, "_files", lambda paths, notes: listed)
    gone.unlink()
    for look in (find.find, find.skim):
        found = look([tmp_path])
        assert list(found.records) == [tmp_path / "b" / "record.json"] and found.notes == []


def test_a_run_that_ends_while_it_is_read_counts_as_it_is_then(tmp_path: Path, monkeypatch) -> None:
    path = put(tmp_path / "a", failed())

    def ends(name):
        put(tmp_path / "a")
        return records.read(name)

    monkeypatch.setattr(find, "read", ends)
    found = find.skim([tmp_path])
    assert list(found.records) == [path] and found.unfinished == {}


def test_runs_can_be_compared_while_they_are_written(tmp_path: Path) -> None:
    """Records are replaced, and folders come and go, beside a reader that sees no damage."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "begun\n"
        seen, until = set(), time.time() + 3
        while time.time() < until:
            for look in (find.find, find.skim):
                found = look([tmp_path])
                assert found.notes == []
                seen.add((len(found.records), len(found.unfinished)))
        assert writer.poll() is None and len(seen) > 1
    finally:
        writer.kill()
        writer.wait()
