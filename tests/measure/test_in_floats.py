"""What is said of torch's own times of integer operations."""

from gossamer.contract import Fact
from gossamer.measure.runtimes import in_floats

DENSE = Fact("a", (8, 8))


def fact(bits: int) -> Fact:
    return Fact("b", (8, 8), operands=(bits, bits))


def test_floats_need_no_word():
    assert in_floats([DENSE]) == []


def test_int8_is_pointed_to_where_its_integers_are_multiplied():
    (note,) = in_floats([DENSE, fact(8)])
    assert note.startswith("INT8") and "export=onnx" in note


def test_one_operation_of_four_bits_makes_the_times_a_simulation():
    (note,) = in_floats([fact(8), fact(4)])
    assert note.startswith("INT4 is simulated") and "data-centre GPU" in note
