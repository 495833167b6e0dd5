"""Legal and illegal orders of the real methods: one line each, before a weight is allocated."""

import pytest

from gossamer import plan
from gossamer.errors import ConfigError
from tests.contract.table import SIDE, STRUCTURED, Row, experiment

MAGNITUDE, LORA, DSEE = {"magnitude": {}}, {"lora": {}}, {"dsee": {}}
SIDE_BRANCH = {"dsee": SIDE}
WANDA, SPARSEGPT = {"wanda": {"samples": 20}}, {"sparsegpt": {"samples": 20}}
ILLEGAL = {
    "wanda, lora": ({**WANDA, **LORA}, "name lora before wanda"),
    "sparsegpt, lora": ({**SPARSEGPT, **LORA}, "lora would destroy the sparse weights of"),
    "magnitude, lora": ({**MAGNITUDE, **LORA}, "lora would destroy the sparse weights of"),
    "magnitude, dsee merged": ({**MAGNITUDE, **DSEE}, "dsee would destroy the sparse weights"),
    "magnitude, dsee structured": (
        {**MAGNITUDE, "dsee": {**STRUCTURED, **SIDE}},
        "dsee would destroy the sparse weights of magnitude",
    ),
    "dsee, lora": ({**DSEE, **LORA}, "name lora before dsee"),
    "dsee side branch, lora": ({**SIDE_BRANCH, **LORA}, "name lora before dsee"),
}


def problems(methods) -> list[str]:
    return plan.problems(experiment(Row(methods)))


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_order_is_one_line_that_says_what_to_type(name):
    methods, expected = ILLEGAL[name]
    (line,) = problems(methods)
    assert line.startswith(f"compression={list(methods)}: ")
    assert expected in line and "\n" not in line


@pytest.mark.parametrize(
    "methods",
    [
        {**LORA, **MAGNITUDE},
        {**MAGNITUDE, **SIDE_BRANCH},
        {**LORA, **DSEE},
        {**LORA, **SIDE_BRANCH},
        {**LORA, **WANDA},
        {**MAGNITUDE, **SPARSEGPT},
        {**WANDA, "fixed_mask": {}},
    ],
    ids=lambda methods: ", ".join(methods),
)
def test_the_orders_that_keep_what_was_produced_are_legal(methods):
    assert problems(methods) == []


def test_three_methods_name_the_pair_that_does_not_fit():
    (line,) = problems({**LORA, **MAGNITUDE, **DSEE})
    assert "dsee would destroy the sparse weights of magnitude" in line


@pytest.mark.parametrize(
    ("methods", "key"),
    [
        ({"magnitude": {"pattern": "2:5"}}, "compression.magnitude: "),
        ({"lora": {"rank": 33}}, "compression.lora: rank=33"),
        ({"dsee": {"sparsity": 1.5}}, "compression.dsee: sparsity=1.5"),
        ({"wanda": {}}, "compression.wanda: samples=128: the training split has 48 rows"),
    ],
    ids=["pattern", "rank", "sparsity", "samples"],
)
def test_a_setting_that_does_not_fit_the_model_names_its_method(methods, key):
    found = problems(methods)
    assert found and all(line.startswith("compression.") for line in found)
    assert any(line.startswith(key) for line in found)


def test_a_checked_configuration_raises_every_problem_at_once(monkeypatch):
    made = experiment(Row({"magnitude": {"sparsity": 2.0}, "dsee": {**SIDE, "rank": 0}}))
    monkeypatch.setattr(plan, "build", lambda config: made)
    with pytest.raises(ConfigError) as raised:
        plan.checked({})
    owners = {line.split(":")[0] for line in raised.value.problems}
    assert owners == {"compression.magnitude", "compression.dsee"}
