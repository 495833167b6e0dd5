"""The sentence on what won: what it claims, and what it refuses to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.records.compare import Found
from gossamer.records.report.gather import gather
from tests.records.examples import TIMES, changed, done, failed

Values = list[tuple[float, float]]  # of each seed: its own, and its dense twin's
CLEAR: Values = [(0.85, 0.80), (0.865, 0.81), (0.87, 0.825)]
EVEN: Values = [(0.80, 0.79), (0.79, 0.81), (0.81, 0.80)]
WORSE: Values = [(0.70, 0.80), (0.705, 0.81), (0.72, 0.815)]


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
        "dsee beats the dense model: test accuracy 0.8617 ± 0.0259 (3 seeds), "
        "+0.0500 ± 0.0124 against its dense twin."
    )
    assert tone == "gain"
    assert "Ahead of lora: by +0.1533 ± 0.0143 at equal seeds." in details
    assert "Its cost: 0.36 MB on disk (90.0%)" in details
    assert "1.25× faster [1.20, 1.30] at batch 1" in details


def test_what_is_counted_by_format_is_told_as_theory_beside_what_was_found() -> None:
    counted = {
        "size__format_bytes": 62_500,
        "size__dense_format_bytes": 400_000,
        "compute__bit_operations": 10,
        "compute__bit_operations_dense": 320,
    }
    details = sentence(*seeds("dsee", CLEAR, **counted))[2]
    assert "Its cost: 0.36 MB on disk (90.0%)" in details
    assert (
        "storage by format 6.40× smaller (theory only); bit operations 32.00× fewer (theory only)"
    ) in details
    assert "by format" not in sentence(*seeds("dsee", CLEAR))[2]


def test_an_interval_that_contains_0_is_no_win() -> None:
    headline, tone, _ = sentence(*seeds("dsee", EVEN))
    assert headline.startswith("No method is shown to beat the dense model. Best is dsee:")
    assert headline.endswith("the interval contains 0.") and tone == "even"


def test_a_loss_is_said_as_plainly() -> None:
    headline, tone, _ = sentence(*seeds("dsee", WORSE))
    assert headline.startswith("No method beats the dense model. Best is dsee: test accuracy 0.70")
    assert "−0.1000 ± 0.0124 against its dense twin" in headline and tone == "loss"


def test_a_winner_below_the_best_mean_is_named() -> None:
    best: Values = [(0.82, 0.85), (0.822, 0.849), (0.824, 0.851)]
    below: Values = [(0.80, 0.78), (0.802, 0.7805), (0.804, 0.7825)]
    headline, tone, details = sentence(*seeds("dsee", best), *seeds("lora", below))
    assert headline == (
        "The best mean is dsee: test accuracy 0.8220 ± 0.0050 (3 seeds), which does not beat its "
        "dense twin (−0.0280 ± 0.0043); lora does, by +0.0210 ± 0.0022, at 0.8020 ± 0.0050 "
        "(3 seeds)."
    )
    assert tone == "gain"
    assert "The cost of dsee: 0.36 MB on disk" in details
    assert "The cost of lora: 0.36 MB on disk" in details


@pytest.mark.parametrize(
    ("best", "why"),
    [
        ([(0.90, 0.80)], "of which one seed shows nothing (+0.1000 against its dense twin)"),
        ([(0.90, 0.85), (0.90, 0.95)], "which is not shown to beat its dense twin (+0.0000 ± "),
        ([(0.90, None)], "whose dense twin's is not finite"),
    ],
)
def test_a_best_mean_that_shows_nothing_hides_no_winner(best: Any, why: str) -> None:
    headline, tone, _ = sentence(*seeds("dsee", best), *seeds("lora", CLEAR))
    assert headline.startswith("The best mean is dsee") and why in headline and tone == "gain"
    assert "; lora beats its own, by +0.0500 ± 0.0124" in headline


def test_no_method_beats_the_dense_one_only_if_each_is_shown_to_lose() -> None:
    lower: Values = [(0.60, 0.59), (0.59, 0.61), (0.61, 0.60)]
    headline, tone, _ = sentence(*seeds("dsee", WORSE), *seeds("lora", lower))
    assert headline.startswith("No method is shown to beat the dense model. Best is dsee")
    assert tone == "even"


@pytest.mark.parametrize("by", [0.001, -0.001])
def test_seeds_that_all_differ_by_exactly_the_same_show_nothing(by: float) -> None:
    same = [(0.8 + by, 0.8), (0.7 + by, 0.7)]  # equal but for rounding
    small = seeds("lora", same, size__checkpoint_bytes=100_000)
    headline, tone, details = sentence(*seeds("dsee", EVEN), *small)
    assert "lora beats" not in headline and tone == "even"
    assert ("Smallest without a shown loss: lora" in details) == (by > 0)
    headline, tone, _ = sentence(*seeds("dsee", same))
    assert headline.startswith("No method is shown to beat the dense model. Best is dsee")
    assert headline.endswith(
        "its seeds differ by exactly the same, which is no spread to judge by."
    )
    assert tone == "even"


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
    assert "It cannot be told apart from lora, +0.0050 ± " in details
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
    assert "Nothing is smaller or faster: 0.40 MB on disk (100.0%); MACs executed 100.0%" in details
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


def test_two_folders_of_texts_are_two_data_sets() -> None:
    def of(folder: str, values: Values, batch: int = 32) -> list[dict[str, Any]]:
        config = {"dataset": {"path": folder, "batch_size": batch}, "model": {"source": "m"}}
        return [
            changed(r, id=f"{folder}{batch}{n}", config=config, config_digest=f"{folder}{batch}")
            for n, r in enumerate(seeds("dsee", values))
        ]

    first, second = page(*of("/a", CLEAR), *of("/a", EVEN, batch=8), *of("/b", WORSE))["scopes"]
    assert (first["apart"], first["runs"], first["tone"]) == ("path /a", 6, "gain")
    assert (second["apart"], second["runs"], second["tone"]) == ("path /b", 3, "loss")


def test_what_a_model_was_made_from_tells_scopes_apart_and_claims_its_lost_runs() -> None:
    records = seeds("dsee", CLEAR)
    for record in records:
        record["config"] = {"model": {"source": "one"}, "dataset": {"limit": None}}
    config = {"model": {"source": "two"}, "dataset": {"limit": 9}}
    first, second = page(*records, failed(id="x", config=config))["scopes"]
    assert (first["apart"], second["apart"]) == ("limit null, source one", "limit 9, source two")
    assert "did not finish" not in " ".join(first["details"])
    assert second["headline"].startswith("Nothing is finished yet; 1 failed")


def test_a_task_or_metric_that_differs_is_named_where_it_does() -> None:
    other = seeds("lora", EVEN, quality__primary="loss", quality__direction="min")
    for record in other:
        record["quality"]["compressed"]["loss"] = record["quality"]["dense"]["loss"] = 0.5
    assert {scope["apart"] for scope in page(*seeds("dsee", CLEAR), *other)["scopes"]} == {
        "accuracy",
        "loss",
    }
    assert [scope["apart"] for scope in page(*seeds("dsee", CLEAR))["scopes"]] == [""]


@pytest.mark.parametrize("change", ["size__checkpoint_bytes", "size__dense_checkpoint_bytes"])
def test_the_smallest_without_a_shown_loss_is_named(change: str) -> None:
    small = seeds("lora", EVEN, **{change: 200_000 if "dense" not in change else 900_000})
    details = sentence(*seeds("dsee", CLEAR, size__checkpoint_bytes=400_000), *small)[2]
    assert "Smallest without a shown loss: lora," in details
