"""T15: removing heads and neurons equals zeroing what they feed, and the rest stays in order."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossamer.errors import StageError
from gossamer.models.bert import Bert
from gossamer.models.surgery import cut_units, replace_module
from tests.models.encoders import FAMILIES, INFO, batch, built, randomised, saved


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        family: randomised(built(saved(tmp_path_factory.mktemp(family), family)))
        for family in FAMILIES
    }


def zeroed(model: nn.Module, units, keep) -> nn.Module:
    """The uncut model with the rows, biases and columns of the removed units set to zero."""
    model = deepcopy(model)
    gone = [unit for unit in range(units.count) if unit not in keep]
    index = torch.tensor([u * units.size + f for u in gone for f in range(units.size)])
    with torch.no_grad():
        for path in units.rows:
            layer = model.get_submodule(path)
            layer.weight[index.long()] = 0
            layer.bias[index.long()] = 0
        for path in units.columns:
            model.get_submodule(path).weight[:, index.long()] = 0
    return model


@settings(max_examples=40, deadline=None)
@given(data=st.data(), family=st.sampled_from(FAMILIES))
def test_cutting_units_equals_zeroing_their_rows_biases_and_columns(models, data, family):
    cut, reference = deepcopy(models[family]), models[family]
    for units in reference.parts.units:
        keep = data.draw(st.lists(st.integers(0, units.count - 1), min_size=1, unique=True))
        reference = zeroed(reference, units, keep)
        cut_units(cut, units, torch.tensor(keep))
    with torch.no_grad():
        expected, seen = reference(**batch()).logits, cut(**batch()).logits
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_is_smaller_consistent_and_trains(models, family):
    model = deepcopy(models[family])
    before = sum(parameter.numel() for parameter in model.parameters())
    heads, neurons = model.parts.units[:2]
    model.get_submodule(heads.rows[0]).weight.requires_grad_(False)
    cut_units(model, heads, torch.tensor([2]))
    cut_units(model, neurons, torch.tensor([5, 1]))
    lost = 3 * 24 * 33 + 32 * 24 + 46 * 33 + 32 * 46  # q, k, v; attention output; up; down
    assert before - sum(parameter.numel() for parameter in model.parameters()) == lost
    assert [units.count for units in model.parts.units] == [1, 2, 4, 48]
    for path, attribute, amount in model.parts.units[0].counters:
        assert getattr(model.get_submodule(path), attribute) == amount
    query = model.get_submodule(heads.rows[0])
    assert (query.out_features, query.in_features) == (8, 32) and not query.weight.requires_grad
    model.train()(**batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert model.get_submodule(neurons.rows[0]).weight.grad.shape == (2, 32)


def test_a_model_can_be_cut_again(models):
    once, twice = deepcopy(models["bert"]), deepcopy(models["bert"])
    units = once.parts.units[0]
    cut_units(once, units, torch.tensor([3, 0]))
    cut_units(twice, units, torch.tensor([3, 1, 0]))
    cut_units(twice, units, torch.tensor([0, 2]))  # of those that were left
    assert torch.equal(once(**batch()).logits, twice(**batch()).logits)


def test_shapes_can_be_cut_on_the_meta_device(tmp_path):
    model = Bert(source=saved(tmp_path, "bert")).build(INFO, meta=True)
    cut_units(model, model.parts.units[1], torch.arange(7))
    assert model.get_submodule(model.parts.units[1].columns[0]).weight.shape == (32, 7)


@pytest.mark.parametrize("keep", [[], [1, 1], [4], [-1]])
def test_an_impossible_choice_of_units_is_refused(models, keep):
    with pytest.raises(ValueError, match="heads"):
        cut_units(deepcopy(models["bert"]), models["bert"].parts.units[0], torch.tensor(keep))


def test_a_wrapper_takes_part_through_its_own_cuts_and_any_other_is_refused_before_a_change(models):
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.rows = inner, None

        def cut_rows(self, index):
            self.rows = index.tolist()

    model = deepcopy(models["bert"])
    units = model.parts.units[0]
    query, key = units.rows[:2]
    replace_module(model, query, Wrapper(model.get_submodule(query)))
    replace_module(model, key, nn.Sequential(model.get_submodule(key)))
    with pytest.raises(StageError, match=r"key is a Sequential, which has no cut_rows"):
        cut_units(model, units, torch.tensor([1]))
    assert model.get_submodule(query).rows is None
    replace_module(model, key, model.get_submodule(key)[0])
    cut_units(model, units, torch.tensor([1, 3]))
    assert model.get_submodule(query).rows == [*range(8, 16), *range(24, 32)]
