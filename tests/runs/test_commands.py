"""plan, list, compare and bench on a real run; a twin that is not the run's equal."""

import json

import pytest

from tests.runs.commands import DOCSTRINGS, contents, copied, gossamer, record


def test_plan_says_what_a_run_would_do_and_writes_nothing(finished, tmp_path):
    ended = gossamer("plan", *DOCSTRINGS, "compression=dsee", cwd=tmp_path)
    assert ended.status == 0, ended.err
    told = record(finished("compression=dsee").directory)
    assert f"{told['size']['dense_parameters']:,} parameters" in ended.out
    for row in told["stages"]:
        (line,) = [line for line in ended.out.splitlines() if f" {row['name']}: " in line]
        if row["steps"]:
            assert f"{row['steps']} steps, {row['trainable_parameters']:,} trained" in line
        else:
            assert "one-shot" in line
    assert f"twin     dense, {' + '.join(map(str, told['budget']['twin']))} steps" in ended.out
    assert not (tmp_path / "outputs").exists()


def test_compare_puts_the_runs_in_one_table(finished, shared):
    runs = [finished("compression=none"), finished("compression=dsee")]
    paths = [str(run.directory.relative_to(shared)) for run in runs]
    ended = gossamer("compare", *paths, cwd=shared)
    assert ended.status == 0, ended.err
    assert "none" in ended.out and "dsee" in ended.out
    ended = gossamer("compare", *paths, "--format", "json", cwd=shared)
    rows = json.loads(ended.out)
    told = {"+".join(record(run.directory)["choices"]["compression"]) for run in runs}
    assert len(rows) == 2 and {"dsee"} <= told
    ended = gossamer("compare", "nowhere", cwd=shared)
    assert ended.status == 2 and "nowhere" in ended.err and "Traceback" not in ended.err


def test_list_names_every_choice(shared):
    ended = gossamer("list", cwd=shared)
    assert ended.status == 0
    for name in ("bert_tiny", "minilm", "docstrings", "text_folder", "dsee", "lora", "magnitude"):
        assert f"  {name} " in ended.out
    assert gossamer("list", "compressions", cwd=shared).out.count("\n") < ended.out.count("\n")


def test_bench_adds_a_workload_to_the_record_and_leaves_the_export_as_it_was(finished, tmp_path):
    run = copied(finished("compression=magnitude").directory, tmp_path)
    before, told = contents(run / "export"), record(run)
    ended = gossamer("bench", str(run.relative_to(tmp_path)), "--batch", "2,32", cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert "latency p50, batch 2 " in ended.out
    assert contents(run / "export") == before
    now = record(run)
    assert [entry["workload"] for entry in now["speed"]] == ["batch 1", "batch 2", "batch 32"]
    assert {**now, "speed": 0} == {**told, "speed": 0}
    assert now["speed"][0] == told["speed"][0] and now["speed"][2] != told["speed"][1]


def test_bench_and_resume_of_what_is_no_run_are_one_line(tmp_path):
    for command in ("bench", "resume"):
        ended = gossamer(command, "outputs/nothing", cwd=tmp_path)
        assert ended.status == 2 and "outputs/nothing" in ended.err
        assert "Traceback" not in ended.err


@pytest.mark.parametrize("how", ["twin=base"])
def test_a_twin_of_other_steps_marks_the_pair_as_unequal(how, finished):
    run = finished("compression=magnitude", how)
    budget = record(run.directory)["budget"]
    assert budget["pair_equal"] is False
    assert sum(budget["twin"]) != budget["total"]
    equal = record(finished("compression=magnitude").directory)
    assert equal["budget"]["pair_equal"] is True
    assert equal["config_digest"] != record(run.directory)["config_digest"]
