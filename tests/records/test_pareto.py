"""The Pareto front of a plane, by hand and by definition."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.records import record as records
from gossamer.records.compare import Asked, compared, rows
from gossamer.records.find import skim
from gossamer.records.pareto import front
from tests.records.examples import done

few = st.integers(0, 4).map(float)  # so that ties are common


def test_a_front_made_by_hand() -> None:
    points = {
        (1.0, 9.0): True,  # least x
        (1.0, 10.0): False,  # as good in x, worse in y
        (2.0, 5.0): True,
        (3.0, 5.0): False,  # as good in y, worse in x
        (4.0, 6.0): False,
        (6.0, 1.0): True,  # least y
    }
    assert front(list(points)) == list(points.values())
    assert front([]) == []


def test_equal_points_are_on_the_front_together() -> None:
    assert front([(1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]) == [True, True, False]


@given(st.lists(st.tuples(few, few), max_size=30))
def test_the_front_is_what_nothing_dominates(points) -> None:
    def dominated(point) -> bool:
        return any(o[0] <= point[0] and o[1] <= point[1] and o != point for o in points)

    assert front(points) == [not dominated(point) for point in points]


def put(root: Path, name: str, accuracy: float | None, size: int, **changes) -> None:
    record = done(
        id=name,
        config_digest=name,
        quality__compressed__accuracy=accuracy,
        size__checkpoint_bytes=size,
        **changes,
    )
    records.write(root / name / "record.json", record)


def marked(root: Path, **asked) -> dict[str, bool | None]:
    return {row["config_digest"]: row["pareto"] for row in rows([str(root)], Asked(**asked))}


def test_better_is_more_accuracy_and_fewer_bytes(tmp_path: Path) -> None:
    put(tmp_path, "best", 0.9, 300)
    put(tmp_path, "small", 0.7, 100)
    put(tmp_path, "neither", 0.7, 300)
    expected = {"best": True, "small": True, "neither": False}
    assert marked(tmp_path, pareto=("quality", "size.checkpoint_bytes")) == expected
    assert marked(tmp_path, pareto=("size.checkpoint_bytes", "accuracy")) == expected


def test_losses_and_latencies_are_better_if_less_and_speed_ups_if_more(tmp_path: Path) -> None:
    entry = done()["speed"][0]
    slow = [{**entry, "speed_up": {"p50": 1.0, "low": 1.0, "high": 1.0}}]
    put(tmp_path, "fast", 0.7, 100, quality__compressed__loss=0.3)
    put(tmp_path, "slow", 0.7, 100, quality__compressed__loss=0.4, speed=slow)
    assert marked(tmp_path, pareto=("loss", "speed.batch 1.speed_up")) == {
        "fast": True,
        "slow": False,
    }
    put(tmp_path, "slow", 0.7, 100, quality__compressed__loss=0.2, speed=slow)
    assert set(marked(tmp_path, pareto=("loss", "speed.batch 1.speed_up")).values()) == {True}


def test_a_front_is_of_one_model_and_data_set_unless_asked_otherwise(tmp_path: Path) -> None:
    put(tmp_path, "one", 0.9, 100)
    put(tmp_path, "other", 0.8, 200, choices__model="bert")
    put(tmp_path, "apart", 0.1, 900, choices__dataset="sst2")
    pareto = ("quality", "size.checkpoint_bytes")
    assert marked(tmp_path, pareto=pareto) == {"one": True, "other": True, "apart": True}
    across = marked(tmp_path, pareto=pareto, across_models=True)
    assert across == {"one": True, "other": False, "apart": True}


ASKED = ("quality", "size.checkpoint_bytes")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"config__dataset": {"path": "/b"}}, "dataset.path (null, /b)"),
        ({"config__model": {"source": "roberta"}}, "model.source (null, roberta)"),
        ({"quality__primary": "loss", "quality__direction": "min"}, "metric (accuracy, loss)"),
    ],
)
def test_other_data_and_other_models_have_fronts_of_their_own(tmp_path, change, told) -> None:
    put(tmp_path, "one", 0.9, 100)
    put(tmp_path, "other", 0.8, 200, **change)
    table, notes = compared(skim([tmp_path]), Asked(pareto=ASKED))
    assert [row["pareto"] for row in table] == [True, True]
    assert notes == [f"not mixed: minilm docstrings classification has 2 fronts, of {told}"]


def test_a_front_across_models_has_all_sources_but_one_data_set(tmp_path: Path) -> None:
    put(tmp_path, "one", 0.9, 100)
    put(tmp_path, "other", 0.8, 200, config__model={"source": "roberta"})
    put(tmp_path, "apart", 0.7, 300, config__dataset={"path": "/b"})
    expected = {"one": True, "other": False, "apart": True}
    assert marked(tmp_path, pareto=ASKED, across_models=True) == expected


def test_a_workload_parts_the_fronts_of_compute_alone(tmp_path: Path) -> None:
    put(tmp_path, "one", 0.9, 100)
    put(tmp_path, "other", 0.8, 200, compute__workload="batch 8")
    assert marked(tmp_path, pareto=ASKED) == {"one": True, "other": False}
    compute = marked(tmp_path, pareto=("quality", "compute.macs_effective"))
    assert compute == {"one": True, "other": True}


def test_a_front_of_several_budgets_says_so(tmp_path: Path) -> None:
    put(tmp_path, "one", 0.9, 100)
    put(tmp_path, "other", 0.8, 200, budget__total=900)
    put(tmp_path, "third", 0.8, 200, budget__start="init")
    _, (note,) = compared(skim([tmp_path]), Asked(pareto=ASKED))
    assert note == (
        "note: the front of minilm docstrings classification mixes budgets: 300 steps (trained), "
        "900 steps (trained), 300 steps (init)"
    )


def test_rows_that_average_the_same_models_share_a_front(tmp_path: Path) -> None:
    for name, first, second in (("one", "a", "b"), ("two", "b", "a")):
        for seed, model in ((1, first), (2, second)):
            config = {"seed": seed, "group": name, "model": {"source": model}}
            size = 100 if name == "one" else 200
            put(
                tmp_path, f"{name}{seed}", 0.9, size, choices__model=model, config=config, seed=seed
            )
    table, notes = compared(skim([tmp_path]), Asked(pareto=ASKED, by=["group"]))
    assert {row["by"]["group"]: row["pareto"] for row in table} == {"one": True, "two": False}
    assert not any("fronts" in note for note in notes)


def test_a_row_without_a_figure_is_on_no_front_and_says_so(tmp_path: Path) -> None:
    put(tmp_path, "one", 0.9, 100)
    put(tmp_path, "none", 0.8, 50, speed=[])
    put(tmp_path, "nan", None, 50)
    asked = Asked(pareto=("quality", "speed.batch 1.p50"))
    table, notes = compared(skim([tmp_path]), asked)
    assert {row["config_digest"]: row["pareto"] for row in table} == {
        "one": True,
        "none": None,
        "nan": None,
    }
    assert any("not on a front: " in note and "speed.batch 1.p50" in note for note in notes)
