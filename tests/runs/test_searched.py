"""A search of real runs: its trials, its Pareto set, and the commands that repeat it."""

import json
import shlex

import pytest

from tests.runs.commands import DOCSTRINGS, gossamer, record


@pytest.mark.slow
def test_a_search_of_two_objectives_ends_with_commands_that_lead_to_its_runs(tmp_path):
    search = (
        *DOCSTRINGS,
        "hydra/sweeper=optuna",
        "hydra.sweeper.sampler=grid",
        "hydra.sweeper.objectives=[quality,size.nonzero_parameters]",
        "compression=magnitude",
        "compression.magnitude.sparsity=0.3,0.6",
    )
    ended = gossamer("-m", *search, cwd=tmp_path)
    assert ended.status == 0, ended.err
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    best = json.loads((folder / "search.json").read_text())["best"]
    sizes = {row["parameters"]["compression.magnitude.sparsity"]: row["values"][1] for row in best}
    assert min(sizes, key=sizes.__getitem__) == "0.6"
    for row in best:
        made = record(tmp_path / row["run"])
        assert row["values"][0] == made["stages"][-1]["quality_after"]["accuracy"]
        assert row["test"] == made["quality"]["compressed"]["accuracy"]
    assert f"trial {best[0]['trial']}: {best[0]['command']}" in ended.out.splitlines()
    again = gossamer(*shlex.split(best[0]["command"])[1:], cwd=tmp_path)
    assert again.status == 0 and f"already done: {best[0]['run']}" in again.out
