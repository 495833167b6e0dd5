"""A room imports only from floors below its own, and Hydra stops at the door."""

import ast

import pytest

from tests.house.source import FLOORS, PACKAGE, all_imports, files, room

HYDRA = ("hydra", "omegaconf")
METHODS = sorted(
    path.stem
    for path in (PACKAGE / "compression").iterdir()
    if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").exists())
)


def test_every_room_has_a_floor():
    rooms = {room(str(file.relative_to(PACKAGE))) for file in files()}
    assert rooms <= FLOORS.keys(), f"give {rooms - FLOORS.keys()} a floor, and the design a line"


def test_a_room_imports_only_from_floors_below_its_own():
    wrong = []
    for one in all_imports():
        if not one.imported or one.imported == one.importer:
            continue
        here, there = FLOORS[one.importer], FLOORS.get(one.imported, 0)
        # the ground floor's and the engine's modules are each other's neighbours in one room; a
        # type may be named across a floor, for it is no import when the program runs
        level = there == here and (here in (0, 5) or one.typing)
        if not (there < here or level):
            wrong.append(f"{one}: floor {here} -> floor {there}")
    assert wrong == []


def test_the_walk_sees_imports_inside_functions():
    """…or the test above would be blind to the lazy imports that start-up time asks for."""
    lazy = [one for one in all_imports() if one.file == "run.py" and one.imported == "dense"]
    assert lazy and any(one.module.startswith("torch") for one in all_imports())


def test_hydra_and_its_configuration_stop_at_the_door():
    wrong = [
        str(one)
        for one in all_imports()
        if one.module.split(".")[0] in HYDRA and one.importer != "cli"
    ]
    assert wrong == []
    assert any(one.module.startswith("hydra") for one in all_imports())


def test_lightning_is_not_on_the_first_floor():
    low = [one for one in all_imports() if FLOORS[one.importer] == 1]
    assert low and not any("lightning" in one.module for one in low)


@pytest.mark.parametrize("method", METHODS)
def test_two_methods_never_import_each_other(method):
    others = tuple(f"gossamer.compression.{name}" for name in METHODS if name != method)
    mine = [one for one in all_imports() if one.file.startswith(f"compression/{method}")]
    assert mine and others
    wrong = [
        str(one) for one in mine if f"{one.module}.".startswith(tuple(f"{o}." for o in others))
    ]
    assert wrong == []


def _from_other_packages(tree):
    """The names that a file's imports from outside the package bind."""
    for node in ast.walk(tree):
        module = getattr(node, "module", None) or ""
        if isinstance(node, ast.Import | ast.ImportFrom) and not module.startswith("gossamer"):
            yield from (name.asname or name.name for name in node.names)


def test_the_engine_knows_no_method_by_name():
    """No method's name, class or module in a file of the floors that put it together."""
    conf = PACKAGE.parents[1] / "conf" / "compression"
    names = {file.stem for file in conf.rglob("*.yaml")} - {"none"} | {*METHODS}
    names |= {name.lower() for name in names}
    assert len(names) >= 3
    wrong = []
    for file in files():
        name = str(file.relative_to(PACKAGE))
        if FLOORS[room(name)] < 4 or "compression" in name:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        foreign = set(_from_other_packages(tree))  # typing.cast and the module ast are no methods
        for node in ast.walk(tree):
            match node:
                case ast.Constant(value=str(text)):
                    word = text
                case ast.Name(id=text) | ast.Attribute(attr=text):
                    word = text
                case _:
                    continue
            if word.lower() in names - foreign:
                wrong.append(f"{name}:{node.lineno}: {word}")
    assert wrong == []
