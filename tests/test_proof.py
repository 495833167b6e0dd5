"""What must be true before a result is reported."""

import pytest

from gossamer.contract import Fact
from gossamer.proof import density_checks


def passed(**facts):
    return [check.passed for check in density_checks(facts)]


def fact(density, operands=None, name="up", target=0.5):
    return Fact(name, (8, 8), "2:4", target, density, operands=operands)


@pytest.mark.parametrize(
    ("density", "operands", "met"),
    [
        (0.5, None, True),
        (0.49, None, False),  # more was removed than declared
        (0.51, None, False),
        (0.3, (4, 4), True),  # small weights round to zero
        (0.51, (4, 4), False),
    ],
)
def test_a_declared_density_is_met_from_above_only_where_weights_are_quantised(
    density, operands, met
):
    assert passed(nm=[fact(density, operands)]) == [met]


def test_a_later_method_that_quantises_the_same_weights_may_add_zeros_to_an_earlier_ones():
    rounded = [Fact("up", (8, 8), "2:4", density=0.4, operands=(8, 8))]
    assert passed(nm=[fact(0.4)], qat=rounded) == [True]
    assert passed(nm=[fact(0.4, name="down")], qat=rounded) == [False]
    assert passed(nm=[fact(0.6)], qat=rounded) == [False]
