"""The table at the end of a run."""

import pytest

from gossamer.records import table
from tests.records.examples import done


def printed(capsys, **changes) -> str:
    table.summary(done(**changes), "outputs/a/b/seed1")
    return capsys.readouterr().out


def line(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(label))


def test_dense_and_compressed_stand_side_by_side(capsys) -> None:
    text = printed(capsys)
    assert line(text, "test accuracy").split()[2:] == ["0.8000", "0.7800", "-0.0200"]
    assert line(text, "test loss").split()[2:] == ["0.5000", "0.5500", "+0.0500"]
    assert line(text, "on disk, MB").split()[3:] == ["0.40", "0.36", "-10.0%"]
    assert line(text, "MACs per sample, executed").split()[-1] == "-25.0%"
    assert "-50.0%" in line(text, "MACs of non-zeros, theoretical")
    assert "500" in line(text, "trainable") and "0.50%" in line(text, "trainable")
    assert "record  outputs/a/b/seed1/record.json" in text
    assert "model   outputs/a/b/seed1/export" in text


def test_what_is_counted_by_format_stands_beside_what_is_on_disk(capsys) -> None:
    assert "by format" not in printed(capsys) and "bit operations" not in printed(capsys)
    text = printed(
        capsys,
        size__format_bytes=62_500,
        size__dense_format_bytes=400_000,
        compute__bit_operations=64_000_000,
        compute__bit_operations_dense=2_048_000_000,
    )
    told = line(text, "storage by format, MB").split()[4:]
    assert told == ["0.40", "0.06", "6.40×", "smaller"]
    told = line(text, "bit operations, theoretical").split()[3:]
    assert told == ["2.05", "G", "64.00", "M", "32.00×", "fewer"]
    assert line(text, "on disk, MB").split()[3:] == ["0.40", "0.36", "-10.0%"]


@pytest.mark.parametrize(
    ("p50", "low", "high", "words"),
    [
        (1.25, 1.1, 1.4, "1.25× faster"),
        (0.8, 0.7, 0.9, "1.25× slower"),
        (1.25, 0.9, 1.6, "no speed-up"),  # the interval holds 1: noise
        (0.8, 0.7, 1.1, "no speed-up"),
        (1.04, 1.03, 1.05, "no speed-up"),  # certain, and too small to matter
        (0.97, 0.96, 0.98, "no speed-up"),
    ],
)
def test_latency_is_told_only_beyond_its_noise(capsys, p50, low, high, words) -> None:
    entry = done()["speed"][0] | {"speed_up": {"p50": p50, "low": low, "high": high}}
    assert line(printed(capsys, speed=[entry]), "latency p50, batch 1").endswith(words)


def test_one_workload_on_two_devices_is_two_named_lines(capsys) -> None:
    here = done()["speed"][0]
    text = printed(capsys, speed=[here, here | {"device": "a GPU"}])
    assert "1.25× faster" in line(text, "latency p50, batch 1 on a processor")
    assert "1.25× faster" in line(text, "latency p50, batch 1 on a GPU")


def test_a_workload_that_was_not_measured_says_why(capsys) -> None:
    assert line(printed(capsys), "latency p50, batch 32").endswith("not measured: does not fit")


@pytest.mark.parametrize("names", [["none"], []])
def test_a_dense_run_says_that_nothing_was_compressed(capsys, names) -> None:
    text = printed(capsys, choices__compression=names)
    assert "dense model; nothing was compressed" in text
    assert "change" not in text and "faster" not in text


def test_an_unequal_pair_and_unspent_steps_are_marked(capsys) -> None:
    text = printed(
        capsys, budget__pair_equal=False, budget__twin=[150], budget__total=200, budget__unspent=100
    )
    assert "not an equal pair: 200 training steps here, 150 of the dense model" in text
    assert "100 steps of the budget unspent" in text
    assert "equal pair" not in printed(capsys)


def test_failed_checks_are_listed_one_by_one_and_passed_ones_in_short(capsys) -> None:
    checks = [{"name": f"check {i}", "passed": i > 1, "figure": f"saw {i}"} for i in range(12)]
    text = printed(capsys, checks=checks)
    assert "✓ 10 checks passed: check 2, check 3" in text and "and 4 more" in text
    assert "✗ check 0: saw 0" in text and "✗ check 1: saw 1" in text


def test_a_metric_that_is_not_finite_is_called_so(capsys) -> None:
    text = printed(capsys, quality__compressed__accuracy=None)
    assert line(text, "test accuracy").split()[2:] == ["0.8000", "not", "finite"]


def test_text_from_a_record_is_not_markup(capsys) -> None:
    checks = [{"name": "[red]layer[0]", "passed": False, "figure": "[/]"}]
    assert "✗ [red]layer[0]: [/]" in printed(capsys, checks=checks)


def test_a_modelled_figure_is_named_as_one(capsys) -> None:
    text = printed(capsys, compute__modelled={"by": "roofline", "figure": 1.5})
    assert "modelled by roofline: 1.5" in text


def against(compressed, dense, runtime="a", dense_runtime=None, **changes):
    entry = done()["speed"][0]
    times = {"compressed": {**entry["compressed"], "p50": compressed}}
    times["dense"] = {**entry["dense"], "p50": dense}
    return entry | times | {"runtime": runtime, "dense_runtime": dense_runtime} | changes


def test_of_several_dense_runtimes_the_table_shows_the_fastest():
    slow, fast = against(4.0, 20.0), against(4.0, 8.0, dense_runtime="b")
    worse = against(5.0, 8.0, "c", "b")
    elsewhere = against(9.0, 9.0, device="another")
    skipped = {"workload": "batch 1", "skipped": "simulated"}
    assert table.honest([slow, fast, worse, elsewhere, skipped]) == [fast, elsewhere, skipped]
    record = done(speed=[slow, fast, worse])
    latency = [row for row in table.rows(record) if row[0].startswith("latency")]
    assert [row[1:3] for row in latency] == [("8.00 ms", "4.00 ms")]
    assert [line for line in table.notes(record) if line.startswith("measured on")] == [
        "measured on a processor, float32, a, against b, 2 threads"
    ]


def test_entries_of_one_runtime_are_all_told():
    two = [against(4.0, 20.0), against(3.0, 8.0, dtype="bfloat16")]
    assert table.honest(two) == two
