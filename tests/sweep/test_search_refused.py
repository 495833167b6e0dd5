"""What is said of a search that cannot be, before anything runs."""

import pytest

from tests.cli.conftest import HERE
from tests.sweep.searching import problems


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("GOSSAMER_ALLOW_TARGETS", "fakes")


@pytest.mark.parametrize(
    "argv",
    [
        ("trainer.lr=tag(log, interval(1e-5, 1e-2))",),
        ("trainer.steps=int(interval(1, 10))", "seed=range(1,4)"),
        ("compression=choice(prune,[adapt,prune])", "compression.adapt.rank=2,4"),
        ("hydra.sweeper.params={trainer.lr: 'interval(0.1, 0.2)'}",),
        (
            "seed=1,2",
            "hydra.sweeper.objectives=[quality, min:speed.batch 1, max:speed.batch 1.speed_up]",
        ),
        (
            "seed=1,2",
            "hydra.sweeper.objectives=[max:validation/f1]",
            "hydra.sweeper.pruner=halving",
        ),
    ],
)
def test_a_search_is_typed_as_hydra_users_know_it(argv):
    assert problems(*argv) == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["seed=1"], "nothing to search"),
        (["seed=1,2", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: at least 1"),
        (["seed=1,2", "hydra.sweeper.n_trials=many"], "hydra.sweeper.n_trials=many: accepted: a"),
        (["seed=1,2", "hydra.sweeper.n_trails=3"], "did you mean hydra.sweeper.n_trials?"),
        (["seed=1,2", "hydra.sweeper.sampler=tpee"], "did you mean tpe?"),
        (["seed=1,2", "hydra.sweeper.objectives=[]"], "name at least one, such as quality"),
        (["seed=1,2", "hydra.sweeper.objectives=[qualty]"], "did you mean quality?"),
        (
            ["seed=1,2", "hydra.sweeper.objectives=[size.checkpoint]"],
            "did you mean size.checkpoint_",
        ),
        (
            ["seed=1,2", "hydra.sweeper.objectives=[quality.compressed.f1]"],
            "test split choose nothing",
        ),
        (
            ["seed=1,2", "hydra.sweeper.objectives=[validation/f1]"],
            "write max:validation/f1 or min:",
        ),
        (["seed=1,2", "hydra.sweeper.objectives=[quality,max:quality]"], "named twice"),
        (
            [
                "seed=1,2",
                "hydra.sweeper.pruner=median",
                "hydra.sweeper.objectives=[quality,size.checkpoint_bytes]",
            ],
            "only with a single objective",
        ),
        (
            [
                "seed=1,2",
                "hydra.sweeper.pruner=median",
                "hydra.sweeper.objectives=[size.checkpoint_bytes]",
            ],
            "known only when a run is done",
        ),
        (
            ["seed=1,2", "hydra.sweeper.pruner=median", "hydra.sweeper.prune_on=accuracy"],
            "such as validation/accuracy",
        ),
        (["trainer.lr=interval(0,1)", "hydra.sweeper.sampler=grid"], "cannot be listed"),
        (["trainer.lr=interval(2,1)"], "in order and apart"),
        (["trainer.lr=tag(log, interval(0,1))"], "needs numbers above 0"),
        (["trainer.lr=tag(lgo, interval(1,2))"], "no such tag: lgo"),
        (["seed=tag(log, choice(1,2))"], "is for an interval or a range"),
        (["trainer.stepz=range(1,3)"], "did you mean trainer.steps?"),
        (
            ["trainer.lr=interval(1,2)", "compression=none,prune", "compression.prun.density=0.5"],
            "prun",
        ),
        (["seed=1,x"], "seed=x"),
        (["trainer.steps=interval(1,10)"], "trainer.steps=4.303: accepted: a whole"),
        (["compression=none,prnue"], "did you mean prune?"),
        (["seed=1,2", "rerun=true"], "a search keeps what its trials found"),
        (["seed=1,2", "sweep.wait=false"], "so it waits"),
    ],
)
def test_what_cannot_be_searched_is_said_in_a_line(argv, words):
    found = problems(*argv)
    assert found and words in found[0], found


def test_an_interval_without_a_search_says_how_to_search():
    from gossamer.cli.check import check
    from tests.cli.conftest import TREE

    (line,) = check(["-m", "--config-path", str(TREE), "trainer.lr=interval(0,1)"])
    assert "cannot be enumerated" in line and "hydra/sweeper=optuna" in line


def test_another_sweeper_is_refused():
    from gossamer.cli.check import check
    from tests.cli.conftest import TREE

    target = "hydra.sweeper._target_=hydra_plugins.other.Sweeper"
    (line,) = check(["-m", "--config-path", str(TREE), "seed=1,2", target])
    assert "hydra_plugins.other.Sweeper is not known here" in line
