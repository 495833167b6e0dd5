"""The shipped config tree: every choice composes, mirrors its target, and says how to use it."""

import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from gossamer.cli.check import arguments, check, examine
from gossamer.cli.freeze import freeze
from gossamer.cli.tree import Tree, conf_dir

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "check_configs.py"))


def test_every_choice_composes_mirrors_its_target_and_has_a_command_that_parses():
    assert list(SCRIPT["problems"](conf_dir())) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "word"),
    [
        ("model/minilm.yaml", "trust_remote_code: false", "", "trust_remote_code"),
        ("model/minilm.yaml", "trust_remote_code", "trust_remote", "trust_remote"),
        ("trainer/default.yaml", "\nsteps: ", "\nsteps: 1", "in the file"),
        ("trainer/default.yaml", "# gossamer", "# gosamer", "no command that uses it"),
        ("trainer/default.yaml", "trainer.steps=", "trainer.stepz=", "trainer.stepz"),
        ("trainer/default.yaml", "gossamer.stages.Training", "gossamer.stages.Train", "Train"),
        ("trainer/default.yaml", "schedule: linear", "schedule: square", "in the file"),
    ],
)
def test_a_yaml_that_drifts_from_its_target_is_found(tmp_path, file, old, new, word):
    tree = tmp_path / "conf"
    shutil.copytree(conf_dir(), tree)
    text = (tree / file).read_text()
    assert old in text
    (tree / file).write_text(text.replace(old, new))
    found = [*SCRIPT["comment"](tree / file, Tree(str(tree))), *SCRIPT["keys"](tree / file, tree)]
    assert any(word in line for line in found), found


def test_the_root_keys_are_those_of_the_schema_with_its_defaults():
    from gossamer.cli.schema import signature

    root = {key: value for key, value in Tree().root.items() if key != "compression"}
    for name, own in (("Eval", root.pop("eval")), ("Sweep", root.pop("sweep")), ("Root", root)):
        known = signature(f"gossamer.cli.validate.{name}").arguments
        assert own == {key: argument.default for key, argument in known.items()}


def test_compression_is_an_ordered_mapping_for_one_several_and_none():
    for choice, names in [
        ("dsee", ["dsee"]),
        ("[lora,magnitude]", ["lora", "magnitude"]),
        ("[magnitude,lora]", ["magnitude", "lora"]),
        ("none", []),
    ]:
        command = examine(arguments([f"compression={choice}"]))
        assert command.problems == []
        assert list(freeze(command.jobs[0])["compression"]) == names


def test_an_experiment_overrides_the_defaults_and_the_command_line_overrides_it():
    command = examine(arguments(["experiment=tiny", "trainer.steps=3"]))
    config = freeze(command.jobs[0])
    assert config["choices"]["model"] == "bert_tiny"
    assert (config["trainer"]["base_steps"], config["trainer"]["steps"]) == (10, 3)
    assert check(["experiment=tiny", "model=minilm"]) == []


@pytest.mark.slow
def test_a_built_wheel_ships_the_config_tree_and_finds_it(tmp_path):
    builder = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(builder, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    shipped = {str(file.relative_to(conf_dir())) for file in conf_dir().rglob("*.yaml")}
    assert {f"gossamer/conf/{name}" for name in shipped} <= names
    ran = subprocess.run(
        [sys.executable, "-m", "gossamer.cli", "--cfg", "job", "compression=dsee"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert yaml.safe_load(ran.stdout)["compression"]["dsee"]["_target_"]
    where = subprocess.run(
        [sys.executable, "-c", "from gossamer.cli.tree import conf_dir; print(conf_dir())"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert where.stdout.strip() == str(tmp_path / "site" / "gossamer" / "conf")
