"""What holds on shapes alone: parameter counts, MACs, and the problems that `plan` reports."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gossamer.compression.dsee import DSEE
from gossamer.models.parts import parts_of
from gossamer.models.surgery import cut_units

from .built import build, finished, logits, on_meta, small, staged

BASE_UPDATE = 589_824  # 12 layers × (q, v) × 16 × (768 + 768)


@pytest.mark.parametrize("residual", [0, 16, 64, 128])
def test_bert_base_trains_589824_and_24_n_parameters_in_its_update(residual):  # T9, T17
    model = on_meta("bert")
    method = DSEE(residual=residual)
    method.prepare(model)
    method.enter(staged(method)["tune"], model)
    own = [
        p for name, p in model.named_parameters() if p.requires_grad and "classifier" not in name
    ]
    assert sum(p.numel() for p in own) == BASE_UPDATE + 24 * residual
    assert all(p.is_meta for p in model.parameters())


def test_the_default_tunes_less_than_0_7_percent_of_bert_base_and_of_minilm():
    shares = {}
    for choice in ("bert", "minilm"):
        model = on_meta(choice)
        total = sum(p.numel() for p in model.parameters())
        method = DSEE()
        method.prepare(model)
        method.enter(staged(method)["tune"], model)
        shares[choice] = sum(p.numel() for p in model.parameters() if p.requires_grad) / total
    assert shares["bert"] == pytest.approx(0.0054, abs=1e-4)
    assert shares["minilm"] == pytest.approx(0.0066, abs=1e-4)


def macs_of_the_blocks(model, length: int = 128) -> int:
    """Multiply-accumulates of the encoder's blocks for one sample, counted by torch."""
    model.set_attn_implementation("eager")  # so that the attention products are plain ones
    base = getattr(model, model.base_model_prefix)
    x = torch.empty(1, length, base.config.hidden_size, device=base.device)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        for block in base.encoder.layer:
            out = block(x)
            x = out[0] if isinstance(out, tuple) else out
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("heads", "neurons", "saved"),
    [(3 / 12, 0.0, 0.088), (4 / 12, 0.0, 0.117), (3 / 12, 0.25, 0.250), (4 / 12, 0.4, 0.376)],
)
def test_removing_units_saves_the_share_of_bert_base_macs_that_the_notes_derive(  # T17
    heads, neurons, saved
):
    model = on_meta("bert")
    dense = macs_of_the_blocks(model)
    assert dense == 12 * 128 * (12 * 768**2 + 2 * 128 * 768)
    for units in parts_of(model).units:
        share = heads if units.kind == "heads" else neurons
        cut_units(model, units, torch.arange(units.count - round(share * units.count)))
    assert 1 - macs_of_the_blocks(model) / dense == pytest.approx(saved, abs=7e-4)


def test_a_finished_structured_model_runs_with_the_macs_that_were_saved():  # T17
    model = build("bert_tiny")
    dense = macs_of_the_blocks(copy.deepcopy(model))
    method = DSEE(sparsity=0.0, heads=0.5, neurons=0.25)
    finished(method, model)
    assert logits(model).isfinite().all()
    d, n = 128, 128  # attention: half of 4d² + 2nd; feed-forward: a quarter of 8d²
    share = (0.5 * (4 * d * d + 2 * n * d) + 0.25 * 8 * d * d) / (12 * d * d + 2 * n * d)
    assert 1 - macs_of_the_blocks(model) / dense == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("choice", ["bert", "bert_tiny", "minilm"])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"heads": 0.5, "neurons": 0.25, "structure_score": "gates"}, {"sparsity": 0.0}],
)
def test_every_model_can_be_prepared_on_meta_without_a_problem(choice, arguments):
    model = on_meta(choice)
    method = DSEE(**arguments)
    assert method.requirements(model, None) == []
    method.prepare(model)
    for stage in staged(method).values():
        method.enter(stage, model)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"sparsity": 1.0}, "sparsity=1.0: a share to remove"),
        ({"update_sparsity": -0.1}, "update_sparsity=-0.1: a share to remove"),
        ({"heads": 1.5}, "heads=1.5: a share to remove"),
        ({"alpha": 0.0}, "alpha=0.0: must be above 0"),
        ({"lr": -1.0}, "lr=-1.0: must be above 0"),
        ({"rank": 0}, "rank=0: must be 1 or more"),
        ({"rank": 33}, "rank=33: the thinnest of these layers has rank 32"),
        ({"residual": -1}, "residual=-1: must be 0 or more"),
        ({"residual": 1025}, "residual=1025: the smallest of these layers has 1024 weights"),
        ({"gate_l1": -1.0}, "gate_l1=-1.0: must be 0 or more"),
        ({"tune": 1.5}, "tune=1.5: a share of the steps"),
        ({"tune": 0.0}, "tune=0: score=update ranks by what tuning has learnt"),
        (
            {"tune": 0.0, "score": "weight", "heads": 0.5, "structure_score": "gates"},
            "tune=0: structure_score=gates ranks by what tuning has learnt",
        ),
        ({"roles": ("query", "valeu")}, "roles=['query', 'valeu']: this model has the roles"),
        ({"roles": ()}, "roles=[]: this model has the roles"),
        (
            {"roles": ("query", "key", "value", "attention_output", "up", "down")},
            "sparsity=0.5: every layer has an update",
        ),
        ({"roles": ("attention_output",), "heads": 0.5}, "heads=0.5: its gates stand on"),
        ({"roles": ("down",), "neurons": 0.5}, "neurons=0.5: its gates stand on down"),
        ({"heads": 0.1}, "heads=0.1: removes none of the 4 heads of a block"),
        ({"heads": 0.9}, "heads=0.9: removes 4 of the 4 heads of a block"),
        ({"neurons": 0.99}, "neurons=0.99: removes 95 of the 96 neurons of all blocks"),
        ({"neurons": 0.001}, "neurons=0.001: removes none of the 96 neurons"),
    ],
)
def test_each_bad_value_is_one_line_that_names_its_key(arguments, line):
    problems = DSEE(**arguments).requirements(small(), None)
    assert len(problems) == 1
    assert problems[0].startswith(line)
    assert "\n" not in problems[0]


def test_all_problems_are_reported_at_once():
    method = DSEE(rank=0, lr=0.0, roles=("nothing",), heads=0.1)
    assert len(method.requirements(small(), None)) == 4
