"""The embedded corpus: the same in every reading, split by file, of the promised size."""

import pytest

from gossamer.data.info import SPLITS
from gossamer.data.stdlib import SHARES, Stdlib, assign_files, sources
from gossamer.errors import DataError


def test_two_readings_are_the_same_and_no_file_is_in_two_splits():
    data, again = Stdlib(), Stdlib()
    assert data.fingerprint() == again.fingerprint()
    texts = {split: set(data.splits[split]) for split in SPLITS}
    assert not texts["train"] & texts["validation"] and not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]
    total = sum(data.bytes(split) for split in SPLITS)
    assert 3_000_000 < total < 6_000_000
    for split, share in SHARES.items():
        assert data.bytes(split) / total == pytest.approx(share, abs=0.01)
    assert "source files of" in data.info.notes[0]


def test_held_out_splits_have_files_of_all_sizes():
    sizes = {f"{number}.py": 10 + number**2 for number in range(100)}
    assigned = assign_files(sizes)
    for split in SPLITS:
        own = sorted(size for path, size in sizes.items() if assigned[path] == split)
        assert own[0] < 400 and own[-1] > 8000
    assert assign_files(dict(reversed(sizes.items()))) == assigned


def test_tests_and_what_some_builds_lack_are_left_out(tmp_path):
    for path in ("b.py", "json/a.py", "json/test/c.py", "idlelib/d.py", "_sysconfigdata_x.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"# {path} ä\n", encoding="utf-8")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "long.py").write_text("x = 1\n" * 20_000)
    assert sources(tmp_path) == {"b.py": "# b.py ä\n", "json/a.py": "# json/a.py ä\n"}
    with pytest.raises(DataError, match=r"has 2 source files, .* dataset.path="):
        Stdlib(path=str(tmp_path)).load()
