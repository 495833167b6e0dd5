"""A run's directory depends on what changes its result, and on nothing else."""

import copy

import pytest
import yaml

from gossamer.cli import frozen
from gossamer.cli.check import arguments, examine
from gossamer.cli.freeze import freeze
from gossamer.cli.rundir import digest, run_directory
from gossamer.cli.tree import Tree
from gossamer.errors import ConfigError
from tests.cli.conftest import TREE


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(str(TREE))


@pytest.fixture
def frozen_config(tree):
    def make(*overrides: str) -> dict:
        command = examine(arguments(overrides), tree)
        assert command.problems == []
        return freeze(command.jobs[0])

    return make


@pytest.mark.parametrize(
    "override",
    [
        "seed=2",
        "outputs=elsewhere",
        "name=mine",
        "rerun=true",
        "trainer.progress=false",
        "trainer.steps=150",
        "trainer.clip=1",
        "eval.limit=5",  # of no question
    ],
)
def test_what_does_not_change_the_result_does_not_change_the_digest(frozen_config, override):
    assert frozen_config(override)["digest"] == frozen_config()["digest"]


@pytest.mark.parametrize(
    "override",
    [
        "model=tiny",
        "dataset.max_length=32",
        "trainer.lr=1e-3",
        "twin=base",
        "compression=prune",
        "eval.zero_shot=[piqa]",
    ],
)
def test_what_changes_the_result_changes_the_digest(frozen_config, override):
    assert frozen_config(override)["digest"] != frozen_config()["digest"]


def test_questions_count_but_not_their_order_and_runs_from_before_them_keep_their_place(
    frozen_config,
):
    config = frozen_config()
    older = {key: value for key, value in config.items() if key != "eval"}
    assert digest(older) == config["digest"]
    asked = frozen_config("eval.zero_shot=[piqa,copa]")["digest"]
    assert frozen_config("eval.zero_shot=[copa,piqa]", "eval.batch_size=4")["digest"] == asked
    assert frozen_config("eval.zero_shot=[copa,piqa]", "eval.limit=4")["digest"] != asked


def test_the_order_of_the_methods_counts(frozen_config):
    one, other = (
        frozen_config("compression=[adapt,prune]"),
        frozen_config("compression=[prune,adapt]"),
    )
    assert list(one["compression"]) == ["adapt", "prune"]
    assert list(other["compression"]) == ["prune", "adapt"]
    assert one["digest"] != other["digest"]


def test_the_order_of_keys_and_the_spelling_of_numbers_do_not_count(frozen_config):
    config = frozen_config("compression=prune")
    shuffled = copy.deepcopy(config)
    shuffled["trainer"] = dict(reversed(config["trainer"].items()))
    shuffled["trainer"]["clip"] = 1
    assert digest(shuffled) == digest(config)


def test_the_directory_is_name_digest_and_seed(frozen_config):
    config = frozen_config("compression=[adapt,prune]", "seed=7", "dataset=glue/mrpc")
    expected = f"outputs/minilm-glue_mrpc-adapt+prune/{config['digest']}/seed7"
    assert config["directory"] == expected == str(run_directory(config))
    assert len(config["digest"]) == 12 and int(config["digest"], 16) >= 0
    assert frozen_config("name=mine")["directory"].startswith("outputs/mine/")
    assert frozen_config("experiment=table1")["directory"].startswith("outputs/table1/")


def test_the_same_command_always_leads_to_the_same_directory(frozen_config):
    assert frozen_config("name=${now:%f}x")["digest"] == frozen_config("name=${now:%f}y")["digest"]
    assert frozen_config("model=tiny") == frozen_config("model=tiny")


def test_a_frozen_config_has_every_key_its_choices_and_what_was_typed(frozen_config):
    config = frozen_config("experiment=table1", "model.layers=3", "seed=${trainer.steps}")
    assert config["seed"] == 30  # resolved, once
    assert config["overrides"] == ["experiment=table1", "model.layers=3", "seed=${trainer.steps}"]
    assert config["choices"] == {
        "model": "minilm",
        "task": "classification",
        "dataset": "docstrings",
        "compression": ["adapt", "prune"],
        "trainer": "default",
        "logger": "none",
        "export": "default",
        "experiment": "table1",
    }
    assert config["model"]["layers"] == 3
    assert config["compression"]["prune"]["_target_"] == "fakes.Prune"
    assert "hydra" not in config and "twin_config" not in config
    assert frozen_config("compression=none")["compression"] == {}


def test_a_twin_of_overrides_is_composed_dense_with_the_same_settings(frozen_config):
    config = frozen_config("experiment=table1", "twin=[model=tiny]", "trainer.lr=1e-3", "seed=4")
    twin = config["twin_config"]
    assert twin["compression"] == {} and twin["choices"]["compression"] == []
    assert twin["choices"]["model"] == "tiny" and twin["model"]["_target_"] == "fakes.Tiny"
    assert twin["trainer"] == config["trainer"] and twin["trainer"]["steps"] == 30
    assert twin["seed"] == 4
    assert config["digest"] != frozen_config(*config["overrides"][:1], "trainer.lr=1e-3")["digest"]


def test_two_spellings_of_one_twin_are_one_run(frozen_config):
    one = frozen_config("twin=[model=tiny]")
    other = frozen_config("twin=[model=tiny,trainer.steps=150]")
    assert one["digest"] == other["digest"]


def test_a_frozen_config_comes_back_from_its_file_unchanged(frozen_config, tmp_path):
    config = frozen_config("compression=[prune,adapt]", "twin=[model=tiny]", "model.name='ünï'")
    frozen.write(config, tmp_path / "deep" / "config.yaml")
    read = frozen.read(tmp_path / "deep" / "config.yaml")
    assert read == config and list(read["compression"]) == ["prune", "adapt"]
    assert digest(read) == config["digest"]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("text", ["a: [", "", "- 1", "seed: 1", "\x00"])
def test_a_file_that_is_no_frozen_config_is_refused_by_name(tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        frozen.read(file)
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        frozen.read(tmp_path / "absent.yaml")


def test_plain_yaml_tools_read_a_frozen_config(frozen_config, tmp_path):
    config = frozen_config()
    frozen.write(config, tmp_path / "config.yaml")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["trainer"]["lr"] == 5e-5
