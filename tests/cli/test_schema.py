"""Signatures are read from source: classes, dataclasses, functions; annotations; what cannot be."""

import ast
import subprocess
import sys

import pytest

from gossamer.cli.schema import REQUIRED, attributes, signature
from gossamer.cli.source import MISSING, OPAQUE, find
from gossamer.cli.values import read


def accepts(annotation: str):
    return read(ast.parse(annotation, mode="eval").body)


@pytest.mark.parametrize(
    ("annotation", "admitted", "refused"),
    [
        ("int", [0, -3], [1.0, True, "1", None, [1]]),
        ("float", [1, 2.5, float("inf")], [True, "1", None, float("nan")]),
        ("bool", [True, False], [0, 1, "true"]),
        ("str", ["", "a"], [1, None, ["a"]]),
        ("float | None", [None, 0.5, 1], ["x", True]),
        ("Optional[int]", [None, 1], ["x", 1.5]),
        ("Union[int, str]", [1, "a"], [1.5, None]),
        ("Literal['a', 'b']", ["a", "b"], ["c", "", None, 1]),
        ("Literal[1, 2] | None", [1, None], [True, 3, "1"]),
        ("tuple[int, ...]", [[], [1, 2]], [["a"], 1, "ab", {"a": 1}]),
        ("tuple[int, str]", [[1, "a"]], [[1], [1, 2], ["a", 1]]),
        ("list[float]", [[1, 2.5]], [["a"], 1]),
        ("Sequence", [[1, "a"]], ["ab", 1]),
        ("dict[str, int]", [{}, {"a": 1}], [{"a": "b"}, [1], 1]),
        ("Path | None", [None, "here"], ["", 1]),
        ("'int | None'", [1, None], ["x"]),
        ("Annotated[int, 'steps']", [1], ["x"]),
        ("SomeClass", [1, "a", None, {"a": 1}], []),
    ],
)
def test_an_annotation_admits_exactly_what_it_says(annotation, admitted, refused):
    known = accepts(annotation)
    assert [value for value in admitted if not known.admits(value)] == []
    assert [value for value in refused if known.admits(value)] == []


def test_what_is_accepted_is_said_in_words():
    assert str(accepts("int | None")) == "a whole number or null"
    assert str(accepts("Literal['a', 'b']")) == "a or b"
    assert str(accepts("tuple[str, ...]")) == "a list [text, …]"


def test_a_class_gives_the_arguments_of_its_init():
    known = signature("fakes.Encoder")
    assert list(known.arguments) == ["name", "weights", "layers", "dropout", "sizes", "config"]
    assert known.arguments["sizes"].default == (128, 256)
    assert known.arguments["weights"].accepts.literals == ("init", "pretrained")  # an alias


def test_a_dataclass_gives_its_fields_and_inherited_ones_but_no_class_variables():
    known = signature("fakes.Pairs")
    names = ["path", "columns", "max_length", "lower", "task_name", "extra"]
    assert list(known.arguments) == names
    assert known.arguments["extra"].default == []


def test_a_class_without_init_has_that_of_its_base():
    assert list(signature("fakes.Regression").arguments) == ["metric"]


def test_a_function_gives_its_parameters():
    assert signature("fakes.bundle").arguments["formats"].default == ("gossamer",)


def test_an_argument_without_default_is_required():
    assert signature("gossamer.contract.Stage").arguments["name"].default is REQUIRED


def test_class_attributes_are_read_and_inherited():
    assert set(attributes("fakes.Tiny")["accepts"]) == {"text"}
    assert attributes("fakes.Pairs")["kind"] == "text"


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("fakes.Nope", MISSING),
        ("gossamer.nope.X", MISSING),
        ("no_such_package.X", MISSING),
        ("torch.nope.X", MISSING),
        ("fakes", MISSING),
        ("not a path", MISSING),
        ("torch.nn.Linear", OPAQUE),  # star imports: only importing torch would tell
        ("transformers.AutoModel", OPAQUE),  # a lazy module
    ],
)
def test_a_target_that_surely_does_not_exist_is_told_from_one_that_may(target, found):
    assert find(target) == found


def test_reading_a_signature_imports_nothing():
    code = (
        "import sys\n"
        "from gossamer.cli.schema import signature\n"
        "signature('torch.nn.Linear'); signature('gossamer.stages.Training')\n"
        "print('torch' in sys.modules, 'gossamer.stages' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
