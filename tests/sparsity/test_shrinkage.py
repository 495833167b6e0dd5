"""The figures of weights that are about to be dropped, and that their tail is seen."""

import pytest
import torch

from gossamer.sparsity.shrinkage import shrinkage


def test_the_figures_are_those_of_all_masked_weights_together():
    first = torch.tensor([[3.0, -0.5, 0.25, 1.0]]), torch.tensor([[False, True, True, False]])
    second = torch.tensor([[-0.125, 2.0]]), torch.tensor([[True, False]])
    seen = shrinkage([first, second])
    assert seen["sparse_weight_ratio"] == pytest.approx(6 / 6.875)
    assert seen["masked_mean"] == pytest.approx(0.875 / 3)
    assert seen["masked_median"] == pytest.approx(0.25, rel=4e-3)
    assert seen["masked_max"] == 0.5


def test_the_median_is_that_of_a_sort():
    weight = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)) * 1e-5
    masked = torch.rand(40, 50, generator=torch.Generator().manual_seed(1)) < 0.3
    exact = float(weight[masked].abs().median())
    assert shrinkage([(weight, masked)])["masked_median"] == pytest.approx(exact, rel=4e-3)


def test_nothing_masked_weighs_nothing():
    weight = torch.ones(2, 4)
    assert shrinkage([]) == {}
    none = {"masked_mean": 0.0, "masked_median": 0.0, "masked_max": 0.0}
    assert shrinkage([(weight, weight == 0)]) == {"sparse_weight_ratio": 1.0, **none}
    assert shrinkage([(0 * weight, weight == 1)]) == {"sparse_weight_ratio": 1.0, **none}
