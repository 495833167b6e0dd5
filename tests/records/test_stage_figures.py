"""What a stage found out, layer by layer."""

from gossamer.records import table
from gossamer.records.stage_figures import logged, split, told
from tests.records.examples import done

FOUND = {
    "recall 1": 0.5,
    "recall 0": 0.25,
    "oracle recall 0": 0.75,
    "oracle recall 1": 1.0,
    "loss": 0.125,
    "top 5": 0.9,
}


def stage(name="sparsifiner.sparsify", steps=0, **figures):
    return {**done()["stages"][0], "name": name, "steps": steps, "figures": figures}


def test_names_that_end_in_numbers_are_series_in_the_order_of_layers():
    alone, series = split(FOUND)
    assert series == {"recall": {0: 0.25, 1: 0.5}, "oracle recall": {0: 0.75, 1: 1.0}}
    assert list(series["recall"]) == [0, 1]
    assert alone == {"loss": 0.125, "top 5": 0.9}  # a number alone is no series


def test_layers_are_ordered_as_numbers_and_not_as_text():
    series = split({f"recall {n}": float(n) for n in (10, 9, 2)})[1]["recall"]
    assert list(series) == [2, 9, 10]


def test_a_one_shot_stage_is_told_by_means_and_ends():
    assert list(told([stage(**FOUND)])) == [
        "sparsifiner.sparsify: loss 0.125, top 5 0.9, recall 0.375 (0.25 to 0.5 over 2 layers), "
        "oracle recall 0.875 (0.75 to 1 over 2 layers)"
    ]


def test_what_was_not_finite_makes_no_mean():
    (line,) = told([stage(**{"recall 0": 0.5, "recall 1": None, "loss": None})])
    assert line.endswith("loss not finite, recall not finite in 1 of 2 layers")


def test_a_trained_stage_and_one_without_figures_are_not_told():
    old = {name: value for name, value in stage().items() if name != "figures"}
    assert list(told([stage(steps=10, loss=1.0), stage(), old])) == []
    assert logged([stage(steps=10, loss=1.0), old]) == set()


def test_the_names_in_the_metrics_have_no_method():
    assert logged([stage(**{"recall 0": 0.5})]) == {"sparsify/recall 0"}


def test_the_end_of_run_output_has_a_line_for_it(capsys):
    table.summary(done(stages=[stage(**FOUND)]), "outputs/a")
    assert "recall 0.375 (0.25 to 0.5 over 2 layers)" in capsys.readouterr().out
    table.summary(done(), "outputs/a")
    assert "over 2 layers" not in capsys.readouterr().out
