"""CAST on a small LLaMA and real text, through the engine (T14, T15, T17, T18 of its notes), and
what must hold against the arms beside it, whatever the scale."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from gossamer import plan, targets
from gossamer.data.stdlib import Stdlib
from gossamer.dense import Dense
from gossamer.execution import execute
from gossamer.journal import Journal
from gossamer.models.parts import body_linears
from gossamer.stages import Experiment, Training, Watch, plan_stages
from gossamer.tasks.language_modeling import LanguageModeling

CONF = Path(__file__).parents[2] / "conf"
SMALLER = {"layers": 2, "width": 64, "heads": 4, "neurons": 128, "vocabulary": 400}
STEPS, LR = 150, 3e-3


def experiment(compression: str, **settings: object) -> Experiment:
    node = yaml.safe_load((CONF / "model" / "llama_tiny.yaml").read_text()) | SMALLER
    method = yaml.safe_load((CONF / "compression" / f"{compression}.yaml").read_text())
    data = Stdlib(context=32, batch_size=16, limit=25, held_out=3)
    training = Training(
        base_steps=STEPS,
        steps=STEPS,
        lr=LR,
        schedule="cosine",
        accelerator="cpu",
        progress=False,
        checkpoint_every=0,
    )
    made = Experiment(
        targets.build(node),
        LanguageModeling(),
        data,
        training,
        seed=1,
        methods={compression: targets.build({**method, **settings})},
        nodes={"model": node},
    )
    data.load()
    made.open()
    return made


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """compression -> (experiment, model before the last one-shot stage, rows of its stages, what
    was logged), from one dense base."""
    outputs = tmp_path_factory.mktemp("outputs")
    done = {}

    def of(name: str, **settings: object):
        if name not in done:
            made, logged = experiment(name, **settings), []
            budget = plan.budget(made)
            model = Dense(made, (budget.base,), outputs).model(Watch())
            watch = replace(Watch(), log=lambda metrics, step: logged.append(metrics))
            journal = Journal(tmp_path_factory.mktemp(name), {"configuration": name})
            plans = plan_stages(made, budget.steps)
            rows = execute(made, model, plans, journal, budget.base, watch)
            done[name] = made, made.finalize(model), rows, logged
        return done[name]

    return of


@pytest.mark.slow
def test_masked_weights_vanish_and_pruning_them_costs_next_to_nothing(arms):
    """T17: most of what is pruned is gone by then; the largest that is not is reported, and so is
    the loss that pruning adds."""
    _, _, (train, prune), _ = arms("cast", decay=None)
    figures = train["figures"]
    assert figures["sparse_weight_ratio"] > 0.99
    assert figures["masked_median"] < 10 * LR / STEPS < figures["masked_max"]
    jump = prune["quality_after"]["loss"] - prune["quality_before"]["loss"]
    assert jump < 0.02


@pytest.mark.slow
def test_masks_change_at_first_and_hardly_at_the_end(arms):
    """T18"""
    _, _, _, logged = arms("cast", decay=None)
    flips = [line["train/flip_share"] for line in logged if "train/flip_share" in line]
    assert max(flips[1:4]) > 0.005  # the first refresh has nothing to be compared with
    assert flips[-1] < 0.2 * max(flips)


@pytest.mark.slow
def test_what_is_left_is_two_of_four_with_the_scales_folded_in(arms):
    """T14"""
    _, model, _, _ = arms("cast", decay=None)
    layers = body_linears(model)
    assert len(layers) == 14 and {type(layer) for layer in layers.values()} == {torch.nn.Linear}
    for layer in layers.values():
        assert ((layer.weight.reshape(-1, 4) != 0).sum(1) == 2).all()


@pytest.mark.slow
def test_trained_sparsity_is_better_than_one_shot(arms):
    """The one relation of the paper that holds at any scale; others are for the benchmark."""
    mask, *_ = arms("fixed_mask")[2]  # the base with its magnitude mask, before any retraining
    for name, settings in {"cast": {"decay": None}, "fixed_mask": {}, "sr_ste": {}}.items():
        last = arms(name, **settings)[2][-1]
        assert last["quality_after"]["loss"] < mask["quality_after"]["loss"] - 0.05
