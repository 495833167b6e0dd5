"""What the keys carry that a method keeps: match to sample, which a model can only answer if its
attention finds the one tile that it needs, in each picture another one."""

import pytest

from tests.runs.commands import gossamer as command
from tests.runs.commands import record

KEEP = 0.25  # of 18 tokens
STEPS = ("trainer.steps=600", "trainer.validation_batches=4", "trainer.accelerator=cpu")
LEARNED = {
    "keep": KEEP,
    "reduce_n": 1,
    "coefficients": 18,
    "reconstruct_lr": 3e-3,
    "lr": 2e-3,
    "recover": 0.33,
}
STATIC = {"keep": KEEP, "recover": 0}
CHANCE = 1 / 6


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(method, kind) -> the record; one dense base for all."""
    place, records = tmp_path_factory.mktemp("look_up"), {}
    for method, kind, settings in (
        ("sparsifiner", "learned", LEARNED),
        ("static_attention", "mean", STATIC),
        ("static_attention", "random", STATIC),
    ):
        words = [f"compression.{method}.{key}={value}" for key, value in settings.items()]
        ended = command(
            *("experiment=match_to_sample", f"compression={method}", *STEPS, *words),
            *(f"compression.{method}.kind={kind}", f"name={kind}", "logger=none"),
            cwd=place,
        )
        assert ended.status == 0, ended.err
        (config,) = (place / "outputs" / kind).glob("*/seed*/config.yaml")
        records[kind] = record(config.parent)
    return records


def sparsified(one) -> float:
    """Accuracy on the validation split once the keys are chosen, the backbone as it was."""
    (stage,) = [row for row in one["stages"] if row["name"].endswith("sparsify")]
    return stage["quality_after"]["accuracy"]


def test_learned_keys_beat_static_and_random_ones_by_30_points_without_training_the_backbone(told):
    assert told["learned"]["quality"]["dense"]["accuracy"] > 0.99
    for kind in ("mean", "random"):
        assert CHANCE < sparsified(told[kind]) < sparsified(told["learned"]) - 0.3


def test_once_distilled_the_model_is_within_2_points_of_the_dense_one(told):
    quality = told["learned"]["quality"]
    assert quality["compressed"]["accuracy"] >= quality["dense"]["accuracy"] - 0.02


def test_learned_keys_carry_more_attention_than_static_and_random_ones_in_the_first_block(told):
    (stage,) = [row for row in told["learned"]["stages"] if row["name"].endswith("sparsify")]
    found = stage["figures"]
    assert found["recall 0"] > 1.5 * max(found["static recall 0"], found["random recall 0"])
    assert found["recall 0"] <= found["oracle recall 0"]
