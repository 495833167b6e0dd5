"""Exports that are damaged, forged or foreign, and disks that refuse: one line, nothing lost."""

import json
import os
import resource
import signal

import pytest

from gossamer.errors import ConfigError, ResumeError, StageError
from gossamer.export import bundle
from tests.export.examples import equal, model_, save


@pytest.mark.parametrize("name", ["model.safetensors", "unsaved.safetensors", "gossamer.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_a_damaged_export_is_one_clear_line(tmp_path, builder, name, damage):
    save(model_(), tmp_path / "model", builder)
    path = tmp_path / "model" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
        path.write_bytes({"empty": b"", "cut": content[:-9], "flipped": flipped}[damage])
    if (name, damage) == ("gossamer.json", "flipped"):
        path.write_text(content.decode().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ResumeError) as caught:
        bundle.load(tmp_path / "model")
    assert "\n" not in str(caught.value) and name.split(".")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "kind", "line"),
    [
        ({"builder": {"_target_": "os.system", "command": "true"}}, ConfigError, "allow-list"),
        ({"builder": {}}, ConfigError, "builder._target_"),
        ({"builder": {"_target_": "torch.nn.functional.relu"}}, ConfigError, "not a class"),
        ({"builder": None}, ResumeError, "builder"),
        ({"changes": 3}, ResumeError, "changes"),
        ({"files": []}, ResumeError, "files"),
        ({"changes": {"modules": {"a.b": None}}}, ResumeError, "'a'"),
        ({"changes": {"modules": {}, "attributes": {}}}, ResumeError, "damaged"),
        ({"shared": {"classifier.weight": "nowhere"}}, ResumeError, "nowhere"),
        (
            {
                "changes": {
                    "modules": {"classifier": {"class": "os.system", "arguments": {}}},
                    "attributes": {},
                    "notes": {},
                    "tensors": {},
                }
            },
            ConfigError,
            "modules.classifier.class",
        ),
    ],
)
def test_a_forged_manifest_runs_nothing(tmp_path, builder, edit, kind, line):
    save(model_(), tmp_path / "model", builder)
    path = tmp_path / "model/gossamer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(kind, match=line):
        bundle.load(tmp_path / "model")


def test_downloaded_code_needs_a_yes(tmp_path, builder):
    save(model_(), tmp_path / "model", builder)
    path = tmp_path / "model/gossamer.json"
    told = json.loads(path.read_text())
    told["builder"]["trust_remote_code"] = True
    path.write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="downloaded code"):
        bundle.load(tmp_path / "model")


@pytest.mark.parametrize("make", ["nothing", "file", "folder"])
def test_a_folder_that_is_no_export_is_one_clear_line(tmp_path, make):
    path = tmp_path / "x"
    if make != "nothing":
        path.touch() if make == "file" else path.mkdir()
    with pytest.raises(ResumeError, match=r"gossamer\.json"):
        bundle.load(path)


def test_weights_of_another_model_do_not_load(tmp_path, builder):
    save(model_(), tmp_path / "model", builder)
    path = tmp_path / "model/gossamer.json"
    told = json.loads(path.read_text())
    told["builder"]["hidden"] = 32
    path.write_text(json.dumps(told))
    with pytest.raises(ResumeError, match="does not fit its manifest"):
        bundle.load(tmp_path / "model")


def test_a_full_disk_is_one_line_and_keeps_the_last_export(tmp_path, builder):
    model = model_()
    save(model, tmp_path / "model", builder)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    changed = model_()
    changed.classifier.weight.data.zero_()
    try:  # a real refusal by the file system: no file may grow beyond 4 KiB
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
        with pytest.raises(StageError, match="cannot write the model"):
            save(changed, tmp_path / "model", builder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, old)
    assert os.listdir(tmp_path) == ["model"]
    assert equal(bundle.load(tmp_path / "model"), model)


def test_saving_again_replaces_the_whole_folder(tmp_path, builder):
    model = model_()
    save(model, tmp_path / "model", builder)
    (tmp_path / "model/stray").touch()
    model.classifier.weight.data.zero_()
    save(model, tmp_path / "model", builder)
    assert not (tmp_path / "model/stray").exists()
    assert equal(bundle.load(tmp_path / "model"), model)
