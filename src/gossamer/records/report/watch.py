"""The command: once, or again and again while a sweep runs."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gossamer.errors import DONE, FAILED, ResumeError
from gossamer.records import compare
from gossamer.records.find import ASIDE, SWEEP, run_folders
from gossamer.records.report.gather import gather
from gossamer.records.report.page import build, write

WATCHED = ("record.json", "metrics.jsonl")


def main(paths: Sequence[str], output: str | Path, watch: float | None = None) -> int:
    """Write the page; with `watch`, again every so many seconds in which something changed, until
    Ctrl-C. The exit status: 1 if there is no record below `paths` and nothing is watched."""
    if watch is not None:
        return _watch(paths, output, watch)
    found = compare.find(paths)
    for note in found.notes:
        print(note, file=sys.stderr)
    if not found.records and not found.unfinished:
        where = " ".join(map(str, paths))
        print(
            f"{where}: no record.json below; start a run with `gossamer`, or name its folder",
            file=sys.stderr,
        )
        return FAILED
    written = write(gather(paths, found), output)
    cut = f", {len(found.unfinished)} unfinished" if found.unfinished else ""
    size = written.stat().st_size / 1e6
    print(f"{written}: {len(found.records)} runs{cut}, {size:.1f} MB")
    return DONE


def _watch(paths: Sequence[str], output: str | Path, seconds: float) -> int:
    print(f"{output}: written again while runs go on; Ctrl-C ends it", flush=True)
    before: object = None
    try:
        while True:
            now = state(paths)
            if now != before:
                build(paths, output, refresh=seconds)
                before = now
            time.sleep(seconds)
    except KeyboardInterrupt:
        build(paths, output)  # the last one stays as it is in the browser
        return DONE


def _of_sweep(folder: Path) -> list[str]:
    """The files of a sweep's runs, which lie elsewhere."""
    try:
        runs = run_folders(folder)
    except ResumeError:  # being written
        return []
    return [str(run / name) for run in runs for name in WATCHED]


def state(paths: Sequence[str | Path]) -> dict[str, tuple[int, int]]:
    """The size and time of every file that the page is made of."""
    found = {}
    for path in map(str, paths):
        places = [path] if os.path.isfile(path) else []
        for folder, inner, names in os.walk(path):
            inner[:] = [name for name in inner if name not in ASIDE]
            if SWEEP in names:
                places += _of_sweep(Path(folder))
            places += [os.path.join(folder, name) for name in WATCHED if name in names]
        for place in places:
            try:
                told = os.stat(place)
            except OSError:  # gone since
                continue
            found[place] = (told.st_size, told.st_mtime_ns)
    return found
