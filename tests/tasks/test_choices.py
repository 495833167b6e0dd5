"""The YAML choices of models, data sets and tasks: composed by Hydra, held to the signatures."""

import importlib
import inspect
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(
    file for group in ("model", "dataset", "task") for file in (CONF / group).rglob("*.yaml")
)
DATASETS = [str(f.relative_to(CONF / "dataset"))[:-5] for f in FILES if "dataset" in f.parts]
# the file that mirrors its class' defaults, where several share a class
MAIN = {
    "Bert": "bert",
    "Glue": "sst2",
    "Images": "image_folder",
    "Llama": "llama",
    "HubText": "wikitext2",
    "MatchToSample": "match_to_sample",
    "Vit": "vit",
}
LANGUAGE = ("stdlib", "lm_folder", "wikitext2", "wikitext103", "c4")
IMAGES = (
    *("digits", "fashion_mnist", "cifar10", "cifar100", "imagenet1k", "image_folder"),
    *("match_to_sample", "match_to_sample_large"),
)
TASKS = {
    "glue/stsb": "Regression",
    **dict.fromkeys(LANGUAGE, "LanguageModeling"),
    **dict.fromkeys(IMAGES, "ImageClassification"),
}
PRIMARY = {
    "defaults": [
        "_self_",
        {"model": "bert_tiny"},
        {"task": "classification"},
        {"dataset": "docstrings"},
    ],
    "hydra": {"searchpath": [f"file://{CONF}"]},
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_a_choice_names_exactly_the_arguments_of_its_target(file):
    choice = yaml.safe_load(file.read_text())
    choice.pop("defaults", None)
    module, name = choice.pop("_target_").rsplit(".", 1)
    target = getattr(importlib.import_module(module), name)
    parameters = {
        key: one.default for key, one in inspect.signature(target.__init__).parameters.items()
    }
    del parameters["self"]
    assert list(choice) == list(parameters)
    if MAIN.get(name, file.stem) == file.stem:
        assert choice == parameters


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_a_choice_begins_with_what_it_is_and_a_command(file):
    comment = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert file.read_text().startswith("# ")
    assert any("gossamer " in line for line in comment)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_composes_and_brings_its_task(dataset, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(PRIMARY))
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("config", overrides=[f"dataset={dataset}"])
    assert config.task._target_.endswith(f".{TASKS.get(dataset, 'Classification')}")
    assert config.dataset._target_.startswith("gossamer.data.")
    assert "defaults" not in config.dataset


def test_the_command_line_wins_over_the_task_that_a_data_set_brings(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(PRIMARY))
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        overrides = ["dataset=glue/stsb", "task=classification", "dataset.limit=10"]
        config = compose("config", overrides=overrides)
    assert config.task._target_.endswith("Classification")
    assert config.dataset.limit == 10
