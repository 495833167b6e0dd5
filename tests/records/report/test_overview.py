"""The sentence on what won: what it claims, and what it refuses to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.records.compare import Found
from gossamer.records.report.gather import gather
from tests.records.examples import TIMES, changed, done, failed

Values = list[tuple[float, float]]  # of each seed: its own, and its dense twin's
CLEAR: Values = [(0.85, 0.80), (0.86, 0.81), (0.87, 0.82)]
EVEN: Values = [(0.80, 0.79), (0.79, 0.81), (0.81, 0.80)]
WORSE: Values = [(0.70, 0.80), (0.71, 0.81), (0.72, 0.82)]


def seeds(method: str, values: Values, **changes: Any) -> list[dict[str, Any]]:
    return [
        done(
            **{
                "id": f"{method}-s{n}",
                "seed": n,
                "config_digest": f"digest of {method}",
                "choices__compression": [] if method == "none" else [method],
                "quality__compressed": {"accuracy": value},
                "quality__dense": {"accuracy": dense},
                **changes,
            }
        )
        for n, (value, dense) in enumerate(values, 1)
    ]


def page(*records: dict[str, Any]) -> dict[str, Any]:
    found = Found()
    for n, record in enumerate(records):
        place = found.records if record["status"] == "done" else found.unfinished
        place[Path(f"outputs/{n}/record.json")] = record
    return gather(["outputs"], found)


def sentence(*records: dict[str, Any]) -> tuple[str, str, str]:
    """(headline, tone, details) of the only scope."""
    (scope,) = page(*records)["scopes"]
    return scope["headline"], scope["tone"], " ".join(scope["details"])


def test_a_clear_winner_is_named_with_its_interval_and_its_gain() -> None:
    headline, tone, details = sentence(*seeds("dsee", CLEAR), *seeds("lora", WORSE))
    assert headline == (
        "dsee beats the dense model: test accuracy 0.8600 ± 0.0248 (3 seeds), "
        "+0.0500 ± 0.0000 against its dense twin."
    )
    assert tone == "gain"
    assert "Ahead of lora: by +0.1500 ± 0.0000 at equal seeds." in details
    assert "Its cost: 0.36 MB on disk (90.0%)" in details
    assert "1.25× faster [1.20, 1.30] at batch 1" in details


def test_an_interval_that_contains_0_is_no_win() -> None:
    headline, tone, _ = sentence(*seeds("dsee", EVEN))
    assert headline.startswith("No method is shown to beat the dense model. Best is dsee:")
    assert headline.endswith("the interval contains 0.") and tone == "even"


def test_a_loss_is_said_as_plainly() -> None:
    headline, tone, _ = sentence(*seeds("dsee", WORSE))
    assert headline.startswith("No method beats the dense model. Best is dsee: test accuracy 0.71")
    assert "−0.1000 ± 0.0000 against its dense twin" in headline and tone == "loss"


def test_where_less_is_better_the_lowest_wins() -> None:
    metric: dict[str, Any] = {"quality__direction": "min"}
    headline, tone, _ = sentence(*seeds("dsee", WORSE, **metric), *seeds("lora", CLEAR, **metric))
    assert headline.startswith("dsee beats the dense model") and tone == "gain"


def test_one_seed_shows_nothing() -> None:
    headline, tone, details = sentence(*seeds("dsee", CLEAR[:1]), *seeds("lora", WORSE[:1]))
    assert headline.startswith("One seed only, so nothing is shown: best is dsee")
    assert "±" not in headline and tone == "open"
    assert "It cannot be told apart from lora" in details


def test_a_winner_that_is_not_told_apart_from_the_next_says_so() -> None:
    close: Values = [(0.84, 0.80), (0.88, 0.81), (0.85, 0.82)]
    _, _, details = sentence(
        *seeds("dsee", CLEAR), *seeds("lora", close), *seeds("magnitude", WORSE)
    )
    assert "It cannot be told apart from lora, +0.0033 ± " in details
    assert "best of 3, so that mean is likely too good" in details


def test_seeds_that_are_not_shared_tell_nothing_apart() -> None:
    other = seeds("lora", WORSE)
    for record in other:
        record["seed"] += 10
    assert "from lora, no seed in common" in sentence(*seeds("dsee", CLEAR), *other)[2]


def test_a_method_that_gains_nothing_when_it_runs_is_told() -> None:
    entry = done()["speed"][0] | {"speed_up": {"p50": 1.02, "low": 0.97, "high": 1.07}}
    same = {
        "speed": [entry],
        "size__checkpoint_bytes": 400_000,
        "compute__macs_effective": 2_000_000,
    }
    details = sentence(*seeds("dsee", WORSE, **same))[2]
    assert "No gain once trained: 0.40 MB on disk (100.0%); MACs executed 100.0%" in details
    assert "MACs of non-zeros 50.0% (theory only)" in details
    assert "measured no speed-up at batch 1" in details
    assert "No configuration is measured to be faster than its dense twin." in details


def test_latencies_of_two_devices_are_two_figures() -> None:
    other = done()["speed"][0] | {"device": "another", "compressed": {**TIMES, "p50": 2.0}}
    mixed = seeds("dsee", CLEAR)
    mixed[0]["speed"] = [other]
    data = page(*mixed)
    assert [setting["label"] for setting in data["settings"]] == [
        "batch 1 on another",
        "batch 1 on a processor",
    ]
    (group,) = data["groups"]
    assert group["speed"] == {}  # neither was measured for every seed
    assert "latency not measured for every seed" in data["scopes"][0]["details"][0]


def test_only_a_dense_model_is_nothing_to_compare() -> None:
    headline, tone, _ = sentence(*seeds("none", EVEN))
    assert (
        headline
        == "Only the dense model is finished here: test accuracy 0.8000 ± 0.0248 (3 seeds)."
    )
    assert tone == "open"


def test_nothing_finished_is_said() -> None:
    headline, tone, details = sentence(failed(), failed("preempted", id="x-s2"))
    assert headline == "Nothing is finished yet; 2 failed or were cut." and tone == "open"
    assert "listed below" in details


def test_runs_that_failed_are_mentioned_where_others_finished() -> None:
    assert (
        "1 more run did not finish; it is listed below."
        in sentence(*seeds("dsee", CLEAR), failed(id="x-s9"))[2]
    )


def test_a_value_that_is_not_finite_makes_no_mean() -> None:
    broken = seeds("dsee", CLEAR)
    broken[1]["quality"]["compressed"]["accuracy"] = None
    assert sentence(*broken)[0].startswith("No configuration has a finite test accuracy")
    headline, _, details = sentence(*broken, *seeds("lora", WORSE))
    assert "Best is lora" in headline and "1 left out of this" in details


def test_a_pair_that_is_not_equal_is_marked() -> None:
    assert "The pair is not equal" in sentence(*seeds("dsee", CLEAR, budget__pair_equal=False))[0]


def test_different_budgets_are_not_called_equal() -> None:
    longer = seeds("lora", WORSE, budget__total=900)
    assert "Budgets differ (300, 900 steps)" in sentence(*seeds("dsee", CLEAR), *longer)[2]


def test_each_model_and_data_set_has_its_own_sentence() -> None:
    here = seeds("dsee", CLEAR)
    there = [
        changed(record, id=f"t{n}", choices__dataset="sst2")
        for n, record in enumerate(seeds("dsee", WORSE))
    ]
    first, second = page(*here, *there)["scopes"]
    assert {first["dataset"], second["dataset"]} == {"docstrings", "sst2"}
    assert {first["tone"], second["tone"]} == {"gain", "loss"}


@pytest.mark.parametrize("change", ["size__checkpoint_bytes", "size__dense_checkpoint_bytes"])
def test_the_smallest_without_a_shown_loss_is_named(change: str) -> None:
    small = seeds("lora", EVEN, **{change: 200_000 if "dense" not in change else 900_000})
    details = sentence(*seeds("dsee", CLEAR, size__checkpoint_bytes=400_000), *small)[2]
    assert "Smallest without a shown loss: lora," in details
