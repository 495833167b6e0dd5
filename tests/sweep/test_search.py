"""What a search asks for, what it makes of how jobs end, and how it goes on."""

import math
import shlex
import sys

import pytest

from gossamer.cli import search as door
from gossamer.cli.check import arguments, examine
from gossamer.cli.freeze import freeze
from gossamer.cli.tree import Tree
from gossamer.errors import ConfigError, ResumeError
from gossamer.sweep import study as studies
from tests.cli.conftest import HERE, TREE
from tests.sweep.searching import Searching, Workers, config

LR = "trainer.lr=tag(log, interval(1e-5, 1e-2))"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder; what the task says of quality is said without building it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("GOSSAMER_ALLOW_TARGETS", "fakes")
    monkeypatch.setattr(door, "foresee", lambda configs, environment: ("accuracy", "max"))
    monkeypatch.setattr("gossamer.sweep.search.LOOK", 0.0)


def peak(config):
    """Quality that is best at a learning rate of 1e-3."""
    return {"quality": 1 - abs(math.log10(config["trainer"]["lr"]) + 3) / 10}


def rates(workers):
    return [config(job)["trainer"]["lr"] for job in workers.started]


def test_the_same_seed_asks_for_the_same_trials_and_another_for_others(tmp_path):
    asked = []
    for place, seed in enumerate((1, 1, 2)):
        workers = Workers(peak)
        Searching(tmp_path / f"s{place}", LR, f"outputs=o{place}").start(workers, seed=seed)
        asked.append(rates(workers))
    assert len({*asked[0]}) == 6
    assert asked[0] == asked[1] != asked[2]


def test_a_logarithmic_interval_is_drawn_over_its_decades(tmp_path):
    workers = Workers(peak)
    Searching(tmp_path / "s", LR).start(workers, sampler="random", n_trials=40)
    drawn = rates(workers)
    assert all(1e-5 <= rate <= 1e-2 for rate in drawn)
    assert 8 <= sum(rate < 10**-3.5 for rate in drawn) <= 32  # 36 of 40 would be above, uniformly


def test_tpe_finds_what_is_better(tmp_path):
    found = Searching(tmp_path / "s", LR).start(Workers(peak), n_trials=30)
    assert found["trials"] == {"done": 30}
    assert float(found["best"][0]["parameters"]["trainer.lr"]) == pytest.approx(1e-3, rel=0.5)
    assert found["best"][0]["values"][0] > 0.98


def test_lists_of_methods_are_categories_and_keys_come_and_go_with_them(tmp_path, capsys):
    typed = (
        "compression=none,adapt,[adapt,prune]",
        "compression.adapt.rank=int(interval(2,9))",
        "compression.prune.density=0.25",
    )
    workers = Workers(lambda config: {"quality": len(config["compression"]) / 2})
    Searching(tmp_path / "s", *typed).start(workers, sampler="random", n_trials=25)
    seen = {}
    for job in workers.started:
        methods = config(job)["compression"]
        seen.setdefault("+".join(methods), []).append(methods)
        assert ("compression.adapt.rank" in job.title) == ("adapt" in methods)
        assert ("compression.prune.density" in job.title) == ("prune" in methods)
    assert set(seen) == {"", "adapt", "adapt+prune"}
    assert all(2 <= each["adapt"]["rank"] <= 9 for each in seen["adapt"])
    assert all(each["prune"]["density"] == 0.25 for each in seen["adapt+prune"])
    said = capsys.readouterr().err
    assert said.count("compression.adapt.rank: left out of trials with compression=none") == 1


def test_the_grid_is_every_combination_that_there_is_once(tmp_path):
    typed = ("compression=none,adapt", "compression.adapt.rank=2,4", "seed=range(1,3)")
    workers = Workers(lambda config: {"quality": 0.5})
    found = Searching(tmp_path / "s", *typed).start(workers, sampler="grid", n_trials=100)
    assert found["trials"] == {"done": 6}
    assert [job.title for job in workers.started][:3] == [
        "compression=none seed=1",
        "compression=none seed=2",
        "compression=adapt compression.adapt.rank=2 seed=1",
    ]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "qmc"])
def test_every_sampler_takes_numbers_and_choices(tmp_path, sampler):
    typed = (LR, "trainer.steps=range(10,50,10)", "compression=none,adapt")
    found = Searching(tmp_path / "s", *typed).start(
        Workers(peak), sampler=sampler, objectives=["quality", "size.checkpoint_bytes"]
    )
    assert found["trials"] == {"done": 6}


def test_two_objectives_end_in_their_pareto_set(tmp_path):
    quality = {2: 0.5, 4: 0.7, 6: 0.6, 8: 0.9}
    sizes = {2: 100, 4: 200, 6: 300, 8: 400}

    def rule(config):
        rank = config["compression"]["adapt"]["rank"]
        return {"quality": quality[rank], "bytes": sizes[rank], "test": 0.1 * rank}

    found = Searching(tmp_path / "s", "compression=adapt", "compression.adapt.rank=2,4,6,8").start(
        Workers(rule), sampler="grid", objectives=["quality", "size.checkpoint_bytes"]
    )
    assert [row["values"] for row in found["best"]] == [[0.9, 400], [0.7, 200], [0.5, 100]]
    assert [row["test"] for row in found["best"]] == pytest.approx([0.8, 0.4, 0.2])
    assert [aim["direction"] for aim in found["objectives"]] == ["max", "min"]


def test_the_validation_split_chooses_whatever_the_test_split_says(tmp_path):
    def rule(config):
        rate = config["seed"]
        return {"quality": rate / 10, "test": 1 - rate / 10}

    found = Searching(tmp_path / "s", "seed=1,2,3").start(Workers(rule), sampler="grid")
    assert [row["parameters"]["seed"] for row in found["best"]] == ["3", "2", "1"]


def test_a_dense_run_is_judged_by_what_it_logged_last(tmp_path):
    def rule(config):
        return {"quality": 0.0, "dense": True, "curve": [0.1, 0.2 * config["seed"]]}

    found = Searching(tmp_path / "s", "seed=1,2").start(Workers(rule), sampler="grid")
    assert [row["values"] for row in found["best"]] == [[0.4], [0.2]]


def test_a_run_without_a_validation_figure_is_no_result(tmp_path):
    workers = Workers(lambda config: {"quality": 0.9, "dense": True})
    found = Searching(tmp_path / "s", "seed=1,2").start(workers, sampler="grid")
    assert found["best"] == [] and "no validation figure" in found["errors"]["0"]


def test_a_bad_trial_is_stopped_and_a_good_one_is_not(tmp_path):
    def rule(config):
        good = config["seed"] not in (4, 5)
        return {"quality": 0.9, "curve": [0.8 if good else 0.1] * 3}

    workers = Workers(rule)
    searching = Searching(tmp_path / "s", "seed=1,2,3,4,5,6")
    found = searching.start(
        workers, sampler="grid", pruner="median", pruner_options={"n_startup_trials": 2}
    )
    assert found["trials"] == {"done": 4, "pruned": 2}
    states = {config(job)["seed"]: job.state() for job in searching.jobs()}
    assert [seed for seed, state in states.items() if state.name == "pruned"] == [4, 5]
    assert states[4].error == "given up at step 0"
    looks = [workers.looks[job.key] for job in searching.jobs()]
    assert looks == [4, 4, 4, 1, 1, 4]


def test_what_is_logged_twice_is_reported_once(tmp_path, recwarn):
    rule = {"quality": 0.9, "curve": [0.1, 0.2, 0.3]}
    Searching(tmp_path / "s", "seed=1,2").start(Workers(lambda config: rule), sampler="grid")
    study = studies.find(studies.storage(tmp_path / "s" / "study.log"), "search")
    assert [each.intermediate_values for each in study.trials] == [{0: 0.1, 10: 0.2, 20: 0.3}] * 2
    assert not [each for each in recwarn if "already reported" in str(each.message)]


@pytest.mark.parametrize(
    ("end", "word"),
    [
        ({"state": "failed", "error": "stage x: the loss is nan"}, "the loss is nan"),
        ({"state": "out of memory", "error": "out of memory: lower"}, "out of memory"),
        ({"state": "killed", "error": "SIGKILL"}, "SIGKILL"),
        ({"quality": math.nan}, "not finite"),
        ({"quality": math.inf}, "not finite"),
    ],
)
def test_a_trial_that_gives_no_value_failed_and_the_search_goes_on(tmp_path, end, word):
    workers = Workers(lambda config: end if config["seed"] == 2 else {"quality": 0.5})
    found = Searching(tmp_path / "s", "seed=1,2,3").start(workers, sampler="grid")
    assert found["trials"] == {"done": 2, "failed": 1} and word in found["errors"]["1"]
    study = studies.find(studies.storage(tmp_path / "s" / "study.log"), "search")
    assert study.trials[1].values is None
    assert study.trials[1].user_attrs["ended"] == end.get("state", "done")


def test_a_search_can_be_told_to_stop_at_an_error(tmp_path):
    workers = Workers(lambda config: {"state": "failed"} if config["seed"] == 2 else {"quality": 0})
    found = Searching(tmp_path / "s", "seed=1,2,3").start(workers, sampler="grid", on_error="stop")
    assert found["trials"] == {"done": 1, "failed": 1}


def test_failed_trials_are_tried_again_if_asked(tmp_path):
    searching = Searching(tmp_path / "s", "seed=1,2,3")
    searching.start(
        Workers(lambda config: {"state": "failed"} if config["seed"] > 1 else {"quality": 0.1}),
        sampler="grid",
        n_trials=3,
    )
    idle = Workers(lambda config: {"quality": 0.5})
    assert searching.start(idle, sampler="grid", n_trials=3)["trials"] == {"done": 1, "failed": 2}
    assert idle.started == []
    again = Workers(lambda config: {"quality": 0.5})
    found = searching.start(again, sampler="grid", n_trials=3, retry=True)
    assert [config(job)["seed"] for job in again.started] == [2, 3]
    assert found["trials"] == {"done": 3} and found["errors"] == {}


def test_trials_run_side_by_side_as_many_as_there_are_workers(tmp_path):
    rule = {"quality": 0.5, "curve": [0.1] * 3}
    workers = Workers(lambda config: rule, slots=3)
    Searching(tmp_path / "s", LR).start(workers, n_trials=7)
    assert workers.most == 3 and len(workers.started) == 7


def test_equal_values_run_once(tmp_path):
    workers = Workers(lambda config: {"quality": 0.5, "curve": [0.1]}, slots=2)
    searching = Searching(tmp_path / "s", "seed=1,2")
    found = searching.start(workers, sampler="random", n_trials=9)
    assert found["trials"] == {"done": 9}
    assert len(workers.started) == len(searching.jobs()) == len(found["best"]) == 2


def test_a_search_goes_on_where_it_was_killed_and_asks_for_what_it_would_have(tmp_path):
    whole = Workers(peak)
    Searching(tmp_path / "whole", LR, "outputs=a").start(whole, n_trials=16)
    searching = Searching(tmp_path / "s", LR, "outputs=b")
    killed = Workers(peak, stop_at=12)
    with pytest.raises(KeyboardInterrupt):
        searching.start(killed, n_trials=16)
    (tmp_path / "s" / "study.log").open("ab").write(b'{"op_code": 4, "wor')  # half a line
    (tmp_path / "s" / "study.log.lock").symlink_to("study.log")  # and Optuna's lock
    rest = Workers(peak)
    found = searching.start(rest, n_trials=16)
    assert len(killed.started) == 12 and len(rest.started) == 4
    assert rates(killed) + rates(rest) == rates(whole)
    assert found["trials"] == {"done": 16}


def test_the_number_of_trials_is_the_total_wanted(tmp_path):
    searching = Searching(tmp_path / "s", LR)
    searching.start(Workers(peak), n_trials=3)
    more = Workers(peak)
    assert searching.start(more, n_trials=5)["trials"] == {"done": 5}
    assert len(more.started) == 2
    assert searching.start(Workers(peak), n_trials=5)["trials"] == {"done": 5}
    assert len(searching.jobs()) == 5


def test_a_combination_that_does_not_go_together_is_a_failed_trial(tmp_path, monkeypatch):
    searching = Searching(tmp_path / "s", "seed=1,2,3")
    real = door.Proposals.frozen

    def frozen(self, texts):
        if "seed=2" in texts:
            raise ConfigError("seed=2: not here")
        return real(self, texts)

    monkeypatch.setattr(door.Proposals, "frozen", frozen)
    monkeypatch.setattr(type(searching.space), "corners", lambda self: iter([["seed=1"]]))
    found = searching.start(Workers(lambda config: {"quality": 1}), sampler="grid")
    assert found["errors"] == {"1": "seed=2: not here"} and found["trials"]["done"] == 2


def test_the_command_of_each_point_leads_to_its_run(tmp_path):
    typed = (LR, "compression=none,[adapt,prune]", "compression.adapt.rank=range(2,6)")
    workers = Workers(lambda config: {"quality": 0.5})
    found = Searching(tmp_path / "s", *typed).start(workers, sampler="random")
    assert len(found["best"]) == 5
    for row in found["best"]:
        program, *words = shlex.split(row["command"])
        (job,) = examine(arguments(words), Tree(str(TREE))).jobs
        assert program == "gossamer" and job.problems == [] and "-m" not in words
        assert freeze(job)["directory"] == row["run"]


def test_a_study_of_something_else_is_not_gone_on_with(tmp_path):
    searching = Searching(tmp_path / "s", "seed=1,2")
    searching.start(Workers(lambda config: {"quality": 1}))
    with pytest.raises(ResumeError, match=r"give another hydra\.sweeper\.study_name"):
        searching.start(Workers(peak), objectives=["size.checkpoint_bytes"])
    other = Searching(tmp_path / "s", "seed=1,2,3")
    with pytest.raises(ResumeError, match="seed: the study has it with other values"):
        other.start(Workers(peak), n_trials=7)


def test_a_queue_must_be_told_how_many_trials_it_gets(tmp_path):
    with pytest.raises(ConfigError, match=r"say how many .* hydra\.sweeper\.n_jobs=4"):
        Searching(tmp_path / "s", LR).start(Workers(peak, slots=None))
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.workers=4"):
        Searching(tmp_path / "t", LR).start(Workers(peak, slots=2), n_jobs=4)


def test_options_that_optuna_does_not_take_are_one_line(tmp_path):
    for options in ({"sampler_options": {"nonsense": 1}}, {"pruner_options": {"nonsense": 1}}):
        with pytest.raises(ConfigError, match=rf"hydra\.sweeper\.{next(iter(options))}=.*nonsense"):
            Searching(tmp_path / "s", LR).start(Workers(peak), **options)
    assert "optuna" in sys.modules
