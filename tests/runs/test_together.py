"""Many runs at once: one dense base for all of them, and sweeps that outlive a failing job."""

import json

from tests.runs.commands import DOCSTRINGS, gossamer, record, start, wait

RACING = 8


def test_eight_racing_runs_train_one_base_and_one_twin(words, tmp_path):
    shown = [word for word in words if word != "trainer.progress=false"]
    processes = [
        start(
            *shown,
            "compression=magnitude",
            f"compression.magnitude.sparsity=0.{place + 1}",
            cwd=tmp_path,
        )
        for place in range(RACING)
    ]
    ended = [wait(process) for process in processes]
    assert [one.status for one in ended] == [0] * RACING, [one.err for one in ended if one.status]
    said = [line for one in ended for line in one.err.splitlines()]
    trained = [line.partition(":")[0] for line in said if ": done in " in line and "dense" in line]
    assert sorted(trained) == ["dense 2.train", "dense.train"]
    weights = list((tmp_path / "outputs" / "base").glob("*/weights.pt"))
    assert len(weights) == len(list((tmp_path / "outputs" / "base").iterdir())) == 2
    told = [record(path.parent) for path in tmp_path.glob("outputs/*/*/seed1/record.json")]
    assert len(told) == RACING
    assert len({json.dumps(one["quality"]["dense"], sort_keys=True) for one in told}) == 1
    started = {one["stages"][0]["quality_before"]["loss"] for one in told}
    assert len(started) == 1  # all from the same weights
    assert len({one["stages"][-1]["quality_after"]["loss"] for one in told}) == RACING


def test_a_sweep_goes_on_after_a_failed_job_and_repeats_only_that_one_if_asked(words, tmp_path):
    sweep = (
        "-m", *words, "compression=magnitude", "compression.magnitude.lr=1e30,1e-3"
    )  # fmt: skip
    ended = gossamer(*sweep, cwd=tmp_path)
    assert ended.status == 1
    assert "Traceback" not in ended.err and "loss is nan" in ended.err
    table = [line for line in ended.out.splitlines() if line.startswith("#")]
    assert [line.split()[1] for line in table] == ["failed", "done"]
    told = [record(path.parent) for path in tmp_path.glob("outputs/*/*/seed1/record.json")]
    assert sorted(one["status"] for one in told) == ["done", "failed"]

    done = next(
        p for p in tmp_path.glob("outputs/*/*/seed1/record.json") if '"done"' in p.read_text()
    )
    before = done.stat().st_mtime_ns
    ended = gossamer(*sweep, "sweep.retry=true", cwd=tmp_path)
    table = [line for line in ended.out.splitlines() if line.startswith("#")]
    assert ended.status == 1 and [line.split()[1] for line in table] == ["failed", "skipped"]
    assert "1 of 2 jobs to run" in ended.out
    assert done.stat().st_mtime_ns == before


def test_a_sweep_of_one_job_says_what_became_of_it(finished, shared):
    finished("compression=dsee")
    ended = gossamer("-m", *DOCSTRINGS, "compression=dsee", cwd=shared)
    assert ended.status == 0 and "1 skipped" in ended.out
