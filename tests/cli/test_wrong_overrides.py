"""Hundreds of random wrong overrides: never a traceback, always a line that names the key."""

import contextlib
from functools import cache

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gossamer.cli.check import arguments, check, examine
from gossamer.cli.keys import flatten
from gossamer.cli.tree import Tree
from gossamer.cli.values import show
from tests.cli.conftest import TREE

MANY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PREFIXES = st.sampled_from(["", "", "+", "++", "~"])
WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
VALUES = st.one_of(
    st.integers().map(str),
    st.sampled_from(
        ["null", "true", "''", "[1,2]", "{a: 1}", "'a b'", "1e-3", "${seed}", "é", "a b"]
    ),
    WORDS,
)
INTEGERS = ("seed", "trainer.steps", "model.layers", "dataset.max_length")


@cache
def tree() -> Tree:
    return Tree(str(TREE))


@cache
def valid_keys() -> frozenset[str]:
    command = examine(arguments([]), tree())
    return frozenset([*flatten(command.base), *command.tree.slots, "experiment"])


def problems(*overrides: str) -> list[str]:
    lines = check(overrides, tree())
    assert all("\n" not in line for line in lines)
    return lines


def assert_named(override: str, lines: list[str]) -> None:
    key = override.partition("=")[0].lstrip("+~") or override
    assert any(show(key).strip() in line for line in lines), (override, lines)


def parsed(override: str):
    with contextlib.suppress(Exception):
        return OverridesParser.create().parse_override(override)


@st.composite
def misspelled(draw) -> str:
    """A valid key with one letter lost, doubled, swapped or replaced somewhere."""
    key = draw(st.sampled_from(sorted(valid_keys())))
    at = draw(st.integers(0, len(key) - 1))
    edits = {
        "lose": key[:at] + key[at + 1 :],
        "double": key[: at + 1] + key[at:],
        "swap": key[:at] + key[at + 1 : at + 2] + key[at] + key[at + 2 :],
        "replace": key[:at] + draw(st.sampled_from("qxzQ0_éß")) + key[at + 1 :],
        "append": key + draw(st.sampled_from(["s", "_", ".x", "2", "/x", "@x", " x"])),
    }
    return edits[draw(st.sampled_from(sorted(edits)))]


@MANY
@given(PREFIXES, misspelled(), VALUES)
def test_a_misspelled_key_is_refused_whatever_its_prefix(prefix, key, value):
    override = prefix + key if prefix == "~" else f"{prefix}{key}={value}"
    known = parsed(override)
    assume(known is None or known.package is not None or known.key_or_group not in valid_keys())
    # entries of a free mapping, and a list index that exists, are no mistakes
    assume(not key.startswith(("model.config.", "model.sizes.", "dataset.columns.")))
    assert_named(override, problems(override))


@MANY
@given(st.sampled_from(["", "++"]), st.sampled_from(INTEGERS), st.text(max_size=20))
def test_any_text_that_is_no_whole_number_is_refused_for_one(prefix, key, value):
    override = f"{prefix}{key}={value}"
    known = parsed(override)
    number = known.value() if known is not None and not known.is_sweep_override() else None
    assume(not isinstance(number, int) or isinstance(number, bool) or number < 0)
    assume(key != "model.layers" or not isinstance(number, int))  # no lower bound is declared
    assume(not isinstance(number, int) or key == "seed")
    assert_named(override, problems(override))


@MANY
@given(st.text(st.sampled_from("[]{}()'\"\\,$:=!@#%^&*|~+ .a1é\t\n\0\ud800"), max_size=12))
def test_quotes_brackets_and_control_characters_are_refused_in_one_line(value):
    override = f"trainer.schedule={value}"
    lines = problems(override)
    assert_named(override, lines)


@MANY
@given(st.text(max_size=16))
def test_what_is_no_assignment_is_refused(text):
    assume("=" not in text and not text.startswith("-"))
    known = parsed(text)
    assume(known is None or known.key_or_group not in valid_keys())
    lines = problems(text)
    key = text.lstrip("~") if known is not None else text
    assert any(show(key).strip() in line for line in lines)


GROUPS = ["model", "task", "dataset", "compression", "trainer", "logger", "export"]
NO_CHOICES = [
    *("null", "[]", "[a,b]", "[1]", "[[a]]", "a/b", "../model/tiny", "''", "true", "tiny.yaml"),
    *("{a: 1}", "glue", "minilm,", "${model}", "/etc", "a=b", "'", "é", "minilm tiny"),
]


@MANY
@given(
    st.sampled_from(GROUPS),
    st.one_of(WORDS, st.integers().map(str), st.sampled_from(NO_CHOICES)),
)
def test_a_choice_that_does_not_exist_is_refused(group, choice):
    assume(choice not in ("none", "default", "minilm", "tiny", "adapt", "prune", "docstrings"))
    override = f"{group}={choice}"
    assert_named(override, problems(override))


@MANY
@given(st.lists(st.tuples(PREFIXES, misspelled(), VALUES), min_size=2, max_size=4))
def test_several_mistakes_are_all_named(mistakes):
    overrides = []
    for prefix, key, value in mistakes:
        override = prefix + key if prefix == "~" else f"{prefix}{key}={value}"
        known = parsed(override)
        assume(known is None or known.package is not None or known.key_or_group not in valid_keys())
        assume(not key.startswith(("model.config.", "model.sizes.", "dataset.columns.")))
        overrides.append(override)
    lines = problems(*overrides)
    for override in overrides:
        assert_named(override, lines)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.stepz=3",
        "+modle.lr=1",
        "++trainer.steps='[['",
        "trainer.schedule=ünïcode",
        "model.name=a=b=c",
        "~nothing",
        "hydra.run.dir=${nope}",
        "twin=[model=nope]",
        "dataset.path=/no/such/folder",
        "model._target_=os.system",
        "\udcff=1",
    ],
)
def test_the_command_itself_ends_with_status_2_and_no_traceback(gossamer, override):
    ended = gossamer(override)
    assert ended.status == 2
    assert "Traceback" not in ended.err and "HYDRA_FULL_ERROR" not in ended.err
    assert ended.out == ""
    assert_named(override if override != "\udcff=1" else "\\udcff=1", ended.err.splitlines())
