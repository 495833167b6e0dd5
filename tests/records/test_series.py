"""Figures of a stage that are one for each layer."""

from gossamer.records.series import by_layer, layer_of, means

FOUND = {"recall 0": 0.5, "recall 1": 0.75, "oracle recall 0": 0.9, "oracle recall 1": None}


def test_names_that_end_in_a_number_are_a_series_over_layers() -> None:
    alone, series = by_layer({**FOUND, "loss": 0.25, "top 5": 0.125})
    assert alone == {"loss": 0.25, "top 5": 0.125}, "without a 0, it counts no layers"
    assert series == {"recall": [0.5, 0.75], "oracle recall": [0.9, None]}


def test_a_layer_without_the_figure_keeps_its_place() -> None:
    assert by_layer({"kept 10": 3.0, "kept 0": 1.0})[1]["kept"] == [1.0, *[None] * 9, 3.0]


def test_names_are_read_whole() -> None:
    assert layer_of("basis density 11") == ("basis density", 11)
    assert layer_of("recall") is layer_of("top5") is layer_of("5") is None


def test_a_mean_is_over_all_layers_or_none() -> None:
    assert means({**FOUND, "loss": 0.25}) == {
        "loss": 0.25,
        "recall, mean of layers": 0.625,
        "oracle recall, mean of layers": None,
    }
