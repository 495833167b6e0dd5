"""Vision transformers: parts, other images, files, and what is refused in one line."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import gossamer
from gossamer.errors import ConfigError
from gossamer.export import bundle
from gossamer.measure.compute import macs
from gossamer.models.parts import body_linears, operations
from gossamer.models.surgery import cut_units
from gossamer.models.vit import Vit
from tests.models.vision import (
    DEIT,
    FAMILIES,
    IMAGENET,
    INFO,
    SWIN,
    built,
    pictures,
    randomised,
    saved,
)

every_family = pytest.mark.parametrize("family", FAMILIES)
LARGER = replace(INFO, classes=tuple("abcde"), image=(3, 24, 24))


def on_meta(source: str) -> nn.Module:
    return Vit(source, weights="init").build(IMAGENET, meta=True)


def different(one: nn.Module, other: nn.Module) -> list[str]:
    mine, theirs = one.state_dict(), other.state_dict()
    return [name for name in mine if not torch.equal(mine[name], theirs[name])]


def data(height: int, width: int) -> SimpleNamespace:
    return SimpleNamespace(info=replace(INFO, image=(1, height, width)))


def test_the_parts_of_deit_t_are_those_of_the_paper():
    model = on_meta("deit_tiny_patch16_224")
    assert sum(p.numel() for p in model.parameters()) == 5_717_416
    parts = model.parts
    assert parts.blocks == tuple(f"blocks.{i}" for i in range(12)) and parts.features == ()
    assert len(parts.linear) == 48
    roles = ["qkv", "attention_output", "up", "down"]
    shapes = [tuple(layer.weight.shape) for layer in list(body_linears(model).values())[:4]]
    assert [*parts.linear.values()][:4] == roles
    assert shapes == [(576, 192), (192, 192), (768, 192), (192, 768)]
    assert {(u.kind, u.count) for u in parts.units} == {("neurons", 768)} and len(parts.units) == 12
    assert parts.outer == {"patch_embed.proj": "patch_embedding", "head": "head"}
    assert next(iter(operations(model))) == "patch_embed.proj"
    assert list(operations(model))[-1] == "head" == parts.head[0]


def test_the_parts_of_swin_t_are_in_four_stages():
    model = on_meta("swin_tiny_patch4_window7_224")
    assert sum(p.numel() for p in model.parameters()) == 28_288_354
    parts = model.parts
    assert len(parts.blocks) == 12 and len(parts.linear) == 48
    assert parts.features == ("layers.0", "layers.1", "layers.2", "layers.3")
    assert [u.count for u in parts.units] == [384] * 2 + [768] * 2 + [1536] * 6 + [3072] * 2
    reductions = {p for p, role in parts.outer.items() if role == "reduction"}
    assert reductions == {f"layers.{i}.downsample.reduction" for i in (1, 2, 3)}
    assert parts.head == ("head.fc",) and parts.outer["patch_embed.proj"] == "patch_embedding"
    assert model.get_submodule("layers.1.downsample.reduction").weight.shape == (192, 384)
    # patches are merged before the blocks that are fed them
    order = list(operations(model))
    merged = order.index("layers.1.downsample.reduction")
    assert order[merged - 1] == "layers.0.blocks.1.mlp.fc2"
    assert order[merged + 1] == "layers.1.blocks.0.attn.qkv"


def test_a_distilled_deit_has_two_heads():
    model = on_meta("deit_tiny_distilled_patch16_224")
    assert model.parts.head == ("head", "head_dist")
    assert [*model.parts.outer.values()] == ["patch_embedding", "head", "head"]


@every_family
def test_every_layer_that_is_named_is_called(family):
    """What a method puts in a layer's place must compute."""
    model, called = built(FAMILIES[family]), []
    for path, layer in operations(model).items():
        layer.register_forward_hook(lambda *_, path=path: called.append(path))
    model(x=pictures())
    assert called == list(operations(model))


def test_macs_are_those_counted_by_hand():
    """196 patches of 768 values; 12 blocks of n(12d² + 2nd) for n = 197 tokens, d = 192; head."""
    n, d = 197, 192
    by_hand = 196 * 768 * d + 12 * n * (12 * d * d + 2 * n * d) + d * 1000
    counted = macs(on_meta("deit_tiny_patch16_224"), {"x": torch.zeros(1, 3, 224, 224)})
    assert counted.total == by_hand == 1_253_683_200  # timm publishes 1.3 G
    assert counted.modules["blocks.0.attn"] == n * (4 * d * d + 2 * n * d)


@every_family
def test_the_meta_build_has_every_shape_and_neither_allocates_nor_draws(family):
    before = torch.random.get_rng_state()
    model = Vit(weights="init", **FAMILIES[family]).build(INFO, meta=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    real = built(FAMILIES[family])
    assert model.parts == real.parts
    assert [p.shape for p in model.parameters()] == [p.shape for p in real.parameters()]


@every_family
def test_the_meta_build_of_pretrained_weights_reads_none(family):
    arguments = {**FAMILIES[family], "file": "nowhere.safetensors"}
    assert Vit(**arguments).build(INFO, meta=True).parts == built(FAMILIES[family]).parts


@every_family
def test_the_same_seed_builds_the_same_bits(family):
    arguments = FAMILIES[family]
    state = torch.random.get_rng_state()
    one, other = built(arguments, 3), built(arguments, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not different(one, other)
    assert set(body_linears(one)) <= {name[:-7] for name in different(one, built(arguments, 4))}
    assert one.training and all(module.training for module in one.modules())


def test_sizes_are_those_that_were_asked_for():
    model = built({**DEIT, "dropout": 0.3, "drop_path": 0.2})
    assert [u.count for u in model.parts.units] == [49, 49]
    assert model.blocks[0].attn.num_heads == 4 and model.patch_embed.patch_size == (4, 4)
    blocks = [m.p for m in model.blocks.modules() if isinstance(m, nn.Dropout)]
    assert set(blocks) == {0.3} and model.head_drop.p == 0.3
    assert model.blocks[1].drop_path1.drop_prob == pytest.approx(0.2)
    for width in range(1, 97):  # whatever the arithmetic of timm's ratio
        builder = Vit(weights="init", **{**DEIT, "width": width, "heads": 1, "neurons": 49})
        meta = builder.build(INFO, meta=True)
        assert meta.parts.units[0].count == 49
    swin = built({**SWIN, "neurons": 20})
    assert [u.count for u in swin.parts.units] == [20, 20, 40]


@every_family
def test_logits_are_of_the_datas_classes_and_channels(family):
    info = replace(LARGER, image=(2, 16, 24))
    model = built(FAMILIES[family], info=info)
    assert model(x=pictures(4, info)).shape == (4, 5)


@every_family
def test_a_file_gives_every_weight_back(family, tmp_path):
    arguments = saved(tmp_path, FAMILIES[family])
    model = built(arguments, 1)
    assert not different(model, randomised(built(FAMILIES[family])))
    assert model.training


@every_family
def test_a_file_of_other_images_and_classes_keeps_its_body(family, tmp_path):
    arguments = saved(tmp_path, FAMILIES[family])
    was = load_file(arguments["file"])
    model = built(arguments, 1, LARGER)
    assert model(x=pictures(2, LARGER)).shape == (2, 5)
    for path, layer in body_linears(model).items():
        assert torch.equal(layer.weight, was[f"{path}.weight"])
    # one channel became three that sum up to it
    colours = model.patch_embed.proj.weight
    torch.testing.assert_close(colours.sum(1, keepdim=True), was["patch_embed.proj.weight"])
    grey = built(saved_as_colours(tmp_path, arguments, colours), 1)
    torch.testing.assert_close(grey.patch_embed.proj.weight, colours.sum(1, keepdim=True))
    # the head of five classes was drawn, and so follows the seed; nothing else did
    (head,) = model.parts.head
    assert different(model, built(arguments, 2, LARGER)) == [f"{head}.weight", f"{head}.bias"]


def saved_as_colours(path: Path, arguments: dict, colours: torch.Tensor) -> dict:
    weights = load_file(arguments["file"]) | {"patch_embed.proj.weight": colours.detach()}
    save_file(weights, path / "colours.safetensors")
    return {**arguments, "file": str(path / "colours.safetensors")}


def test_positions_are_interpolated_to_another_size(tmp_path):
    """Positions that are linear in a token's place stay linear in it."""
    arguments = saved(tmp_path, DEIT)
    weights = load_file(arguments["file"])
    across = torch.linspace(-1, 1, 4)
    weights["pos_embed"][0, 1:] = across.repeat(4)[:, None]  # (16 tokens of a 4 x 4 grid, width)
    save_file(weights, arguments["file"])
    model = built(arguments, info=replace(INFO, image=(1, 32, 32)))
    assert model.pos_embed.shape == (1, 65, 32)
    grid = model.pos_embed[0, 1:, 0].reshape(8, 8)
    torch.testing.assert_close(grid, grid[:1].expand(8, 8))
    assert (grid[0].diff() > 0).all() and grid[0, 0] < -0.9 and grid[0, -1] > 0.9
    assert torch.equal(model.pos_embed[0, 0], weights["pos_embed"][0, 0])


@every_family
def test_an_export_gives_the_same_logits_bit_by_bit(family, tmp_path):
    arguments = FAMILIES[family]
    model = randomised(built(arguments))
    builder = Vit(weights="init", **arguments)
    bundle.save(
        model,
        tmp_path / "export",
        builder={"_target_": "gossamer.models.vit.Vit", "weights": "init", **arguments},
        info=INFO,
        tokenizer=None,
        facts=[],
        fresh=builder.build(INFO, meta=True),
    )
    loaded = gossamer.load(tmp_path / "export")
    assert loaded.parts == model.parts
    with torch.no_grad():
        assert torch.equal(loaded(x=pictures()), model(x=pictures()))
    # a Swin's masks and indices are in no state dict
    assert (tmp_path / "export" / "unsaved.safetensors").exists() == (family == "swin")


@every_family
@torch.no_grad()
def test_neurons_are_cut_with_their_columns(family):
    model = randomised(built(FAMILIES[family]))
    units = model.parts.units[1]
    (up,), (down,) = units.rows, units.columns
    model.get_submodule(down).weight[:, 5] = 0  # neuron 5 says nothing
    before = model(x=pictures())
    cut_units(model, units, torch.tensor([i for i in range(units.count) if i != 5]))
    assert model.get_submodule(up).out_features == units.count - 1
    torch.testing.assert_close(model(x=pictures()), before)


def test_the_fingerprint_follows_the_weights(tmp_path):
    assert Vit(weights="init").fingerprint() == "init"
    arguments = saved(tmp_path, DEIT)
    digest = hashlib.sha256(Path(arguments["file"]).read_bytes()).hexdigest()
    assert Vit(**arguments).fingerprint() == digest


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A hub that cannot be reached, and a local cache of it with one checkpoint."""
    folder = tmp_path / "models--timm--deit_tiny_patch16_224.fb_in1k"
    snapshot = folder / "snapshots" / ("c0ffee" * 7)[:40]
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(snapshot.name)
    weights = randomised(Vit("deit_tiny_patch16_224", weights="init").build(INFO))
    save_file(weights.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("gossamer.models.vision_weights.hub_reachable", lambda: False)
    return weights


def test_without_a_network_the_local_cache_of_the_hub_is_read(cached):
    builder = Vit("deit_tiny_patch16_224")
    assert not different(builder.build(INFO), cached)
    commit = ("c0ffee" * 7)[:40]
    assert builder.fingerprint() == f"timm/deit_tiny_patch16_224.fb_in1k@{commit}"
    assert builder.fingerprint() == Vit("deit_tiny_patch16_224.fb_in1k").fingerprint()


def test_without_a_network_and_a_cache_the_hub_is_refused_at_once(cached):
    line = r"model.source=deit_small_patch16_224: timm/.* model.file=FILE, or .*weights=init"
    for ask in (lambda b: b.build(INFO), lambda b: b.fingerprint()):
        with pytest.raises(ConfigError, match=line) as caught:
            ask(Vit("deit_small_patch16_224"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("change", ["lacks", "has more", "another shape", "torn", "no safetensors"])
def test_a_file_with_other_weights_is_refused(family, change, tmp_path):
    arguments = saved(tmp_path, FAMILIES[family])
    file = Path(arguments["file"])
    weights = load_file(file)
    down = next(name for name in weights if name.endswith("mlp.fc2.weight"))
    if change == "lacks":
        del weights[down]
    elif change == "has more":
        weights["extra.weight"] = torch.ones(1)
    elif change == "another shape":
        weights[down] = weights[down].T.contiguous()
    save_file(weights, file)
    if change == "torn":
        file.write_bytes(file.read_bytes()[:1000])
    if change == "no safetensors":
        arguments["file"] = str(file.rename(tmp_path / "weights.pth"))
    # a head of another number of classes must not make the body's loading lenient
    for info in (INFO, LARGER):
        with pytest.raises(ConfigError, match=r"model.file=") as caught:
            built(arguments, info=info)
        assert "\n" not in str(caught.value)
        if change in ("lacks", "another shape"):
            assert "mlp.fc2.weight" in str(caught.value)


WRONG = {
    "a size of a hub's model": ({"layers": 3}, r"model.layers=3: .* model.weights=init"),
    "heads that do not divide": ({**DEIT, "heads": 3, "weights": "init"}, r"model.heads=3: must d"),
    "no layers": ({**DEIT, "layers": 0, "weights": "init"}, r"model.layers=0: at least 1"),
    "a stage without blocks": (
        {**SWIN, "layers": (2, 0), "weights": "init"},
        r"layers=\(2, 0\): a",
    ),
    "neurons without a width": ({"neurons": 8, "weights": "init"}, r"neurons=8: set model.width"),
    "a dropout of 1": ({"dropout": 1.0}, r"model.dropout=1.0"),
    "a negative drop_path": ({"drop_path": -0.1}, r"model.drop_path=-0.1"),
    "an unknown start": ({"weights": "random"}, r"model.weights=random: pretrained or init"),
    "a file that is not read": ({"file": "a.safetensors", "weights": "init"}, r"model.file=a.safe"),
    "a revision of a draw": ({"revision": "v1", "weights": "init"}, r"model.revision=v1: only"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arguments_that_do_not_go_together_are_refused_by_key(case):
    arguments, line = WRONG[case]
    with pytest.raises(ConfigError, match=line):
        Vit(**arguments)


REFUSED = {
    "an unknown name": ("deit_smal_patch16_224", r"type model.source=deit_small_patch16_224"),
    "an unknown tag": (
        "deit_small_patch16_224.in1k",
        r"no pretrained tag in1k; type model.source=",
    ),
    "a convolutional network": ("resnet18", r"timm does not build it .* ViT, DeiT or Swin"),
    "another family": ("eva02_tiny_patch14_224", r"timm makes a Eva of it.* ViT, DeiT or Swin"),
    "a layer that is never called": ("beit_base_patch16_224", r"makes a Beit"),
    "gated feed-forward layers": ("aimv2_large_patch14_224", r"blocks.0 has a SwiGLU"),
    "parallel blocks": ("vit_base_patch16_xp_224", r"blocks.0 has nothing for its attention"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_models_that_cannot_be_built_or_named_are_refused_in_one_line(case):
    source, line = REFUSED[case]
    with pytest.raises(ConfigError, match=line) as caught:
        Vit(source, weights="init").build(IMAGENET, meta=True)
    assert str(caught.value).startswith(f"model.source={source}: ")
    assert "\n" not in str(caught.value)


def test_a_swin_wants_a_number_for_each_stage():
    with pytest.raises(ConfigError, match=r"model.layers=2 .*model.layers=\[2,2,6,2\]"):
        Vit(weights="init", **{**SWIN, "layers": 2}).build(INFO, meta=True)


def test_images_that_do_not_divide_into_patches_are_a_problem():
    builder = Vit("deit_tiny_patch16_224", weights="init")
    for (height, width), problems in (((32, 48), 0), ((28, 28), 1), ((32, 28), 1)):
        of = data(height, width)
        found = builder.requirements(builder.build(of.info, meta=True), of)
        assert len(found) == problems, found
    assert (
        "28 x 28 pixels do not divide into its patches of 16 x 16"
        in builder.requirements(builder.build(data(28, 28).info, meta=True), data(28, 28))[0]
    )


def test_a_missing_file_is_a_problem_before_any_weight_is_read():
    builder = Vit(**DEIT, file="nowhere.safetensors")
    (line,) = builder.requirements(builder.build(INFO, meta=True), data(16, 16))
    assert line.startswith("model.file=nowhere.safetensors: no such file")
