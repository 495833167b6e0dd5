"""What text files may name, and how a wrong name is reported."""

import subprocess
import sys

import pytest

from gossamer.errors import ConfigError
from gossamer.targets import allowed, build, locate


@pytest.mark.parametrize(
    "path",
    ["os.system", "torchevil.Linear", "subprocess.run", "", "builtins.eval", "gossamer_x.y", None],
)
def test_foreign_packages_are_refused(path):
    assert not allowed(path)
    with pytest.raises(ConfigError, match="allow-list"):
        locate(path, "model._target_")


@pytest.mark.parametrize(
    "path",
    [
        "gossamer.targets.os.system",  # begins with our name, ends in somebody else's function
        "gossamer.targets.importlib.import_module",
        "torch.load",
        "torch.hub.load",
        "torch.serialization.load",
        "torch.os.system",
    ],
)
def test_a_path_cannot_leave_the_allowed_packages_on_the_way(path):
    with pytest.raises(ConfigError, match="allow-list"):
        locate(path)


def test_an_extra_package_is_allowed_by_the_environment(monkeypatch):
    with pytest.raises(ConfigError, match="GOSSAMER_ALLOW_TARGETS=fractions"):
        locate("fractions.Fraction")
    monkeypatch.setenv("GOSSAMER_ALLOW_TARGETS", " fractions , other")
    assert build({"_target_": "fractions.Fraction", "numerator": 3, "denominator": 6}) == 0.5


def test_nodes_are_built_innermost_first():
    node = {
        "_target_": "torch.nn.Sequential.extend",
        "_partial_": True,
        "sequential": [{"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}],
    }
    part = build(node)
    assert part.keywords["sequential"][0].out_features == 3


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ({"_target_": "torch.nn.Linear", "in_features": 2}, "model.out_features: .* needs"),
        (
            {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 2, "bais": True},
            "model.bais: .* did you mean 'bias'",
        ),
        ({"_target_": "torch.nn.Linaer"}, r"model._target_: .* did you mean 'Linear'"),
        ({"_target_": "torch.no_such_room.Thing"}, "model._target_: .* has no 'no_such_room'"),
        ({"_target_": "torch.nn"}, "not a class or a function"),
        ({"_target_": "torch..nn"}, "dotted path"),
        ({"_target_": 3}, "allow-list"),
        ({"hidden": 3}, "model: expected a mapping with a _target_"),
    ],
)
def test_a_wrong_node_is_one_config_error_that_names_its_key(node, line):
    with pytest.raises(ConfigError, match=line):
        build(node, "model")


def test_an_error_inside_a_nested_node_names_its_whole_key():
    inner = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 2, "nope": 1}
    with pytest.raises(ConfigError, match=r"^task\.modules\[1\]\.nope"):
        build({"_target_": "torch.nn.ModuleList", "modules": [None, inner]}, "task")


def test_the_allow_list_is_importable_without_torch():
    code = "import sys, gossamer.targets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
