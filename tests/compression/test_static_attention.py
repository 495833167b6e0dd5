"""Static sparse attention on a small vision transformer: which keys its maps keep, for every image,
and what is stored of them."""

import pytest
import torch
from safetensors.torch import load_file

from gossamer.compression.static_attention import StaticAttention, distances
from gossamer.compression.token_pruning import TokenPruning
from gossamer.contract import Stage
from gossamer.errors import StageError
from gossamer.models.attention import attentions, selective
from gossamer.sparsity.attention import probabilities, top_keys
from gossamer.sparsity.attention_macs import budgeted
from tests.contract import table
from tests.contract.pictures import Pictures
from tests.contract.table import Row
from tests.contract.test_methods import export
from tests.models.vision import DEIT, SWIN, built, pictures, randomised

N, HEADS, WIDTH = 17, 4, 32  # 4 x 4 patches and a class token
PATTERN = Stage("pattern", share=0.0, seed=7)


ROWS = pictures(64)


def static(**settings):
    return StaticAttention(**{"samples": 32, **settings})


def model_with(method, stage=PATTERN, rows=ROWS, before=None):
    """A random model whose maps are made of `rows`, after the method `before`."""
    model = randomised(built(DEIT))
    if before is not None:
        before.prepare(model)
        before.finalize(model)
    method.prepare(model)
    batches = [{"x": rows}]
    list(method.apply(stage, model, batches, ()))
    return model


def maps(model):
    """(L, H, n - 1, n) The maps of each block."""
    q = torch.zeros(1, HEADS, N, 8)
    return torch.stack([layer.connectivity(q, q)[0] for layer in attentions(model).values()])


@torch.no_grad()
def seen_by(model, x):
    """[(attention, map, positions)] of each block that `x` passes."""
    told = []
    for layer in attentions(model).values():
        layer.watch.append(lambda q, k, *rest: told.append(rest))
    model(x)
    for layer in attentions(model).values():
        layer.watch.clear()
    return told


def test_the_mean_pattern_is_the_largest_of_the_mean_attention_of_those_rows():
    rows = pictures(8)
    model = model_with(static(budget=5, samples=6), rows=rows)
    dense, found = randomised(built(DEIT)), []
    for layer in selective(dense).values():
        layer.qkv.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        dense(rows[:6])  # no more than the samples
    for qkv, kept in zip(found, maps(model), strict=True):
        q, k, _ = qkv.reshape(6, N, 3, HEADS, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mean = probabilities(q, k).mean(0)[:, 1:]
        assert torch.equal(kept, top_keys(mean, 5))
    other = maps(model_with(static(budget=5, samples=6), rows=rows.flip(0)))
    assert not torch.equal(other, maps(model))


@pytest.mark.parametrize("budget", [1, 2, 6, 17])
def test_a_window_is_the_class_token_the_patch_itself_and_the_nearest(budget):
    kept = maps(model_with(static(budget=budget, kind="window")))
    assert (kept == kept[:1, :1]).all()  # in all blocks and heads
    places = [(row, column) for row in range(4) for column in range(4)]
    for (row, column), keys in zip(places, kept[0, 0], strict=True):
        assert keys.sum() == budget and keys[0]
        apart = torch.tensor([(row - y) ** 2 + (column - x) ** 2 for y, x in places])
        inside, outside = apart[keys[1:]], apart[~keys[1:]]
        if budget > 1:
            assert inside.min() == 0
        if 1 < budget < N:
            assert inside.max() <= outside.min()
    if budget == 6:  # in the middle: itself and its four neighbours
        assert distances((4, 4), 1)[1 + 5][kept[0, 0, 5]].tolist() == [0, 1, 1, 0, 1, 1]


def test_a_random_pattern_is_the_seeds():
    method = static(budget=5, kind="random")
    kept = maps(model_with(method))
    assert (kept.sum(-1) == 5).all()
    assert torch.equal(kept, maps(model_with(method)))
    other = Stage("pattern", share=0.0, seed=8)
    assert not torch.equal(kept, maps(model_with(method, other)))
    assert not torch.equal(kept[0], kept[1]) and not torch.equal(kept[0, 0], kept[0, 1])


@pytest.mark.parametrize("kind", ["mean", "window", "random"])
def test_every_image_has_the_same_map_and_the_class_token_sees_all(kind):
    model = model_with(static(budget=5, kind=kind))
    for batch in (pictures(3), -2 * pictures(3)):
        for (_, chosen, _), kept in zip(seen_by(model, batch), maps(model), strict=True):
            assert (chosen[:, :, 1:] == kept).all()
            assert chosen[:, :, 0].all()


def test_before_it_is_in_force_the_model_is_the_dense_one():
    method = static(budget=5)
    model = model_with(method)
    with torch.no_grad():
        assert torch.equal(model.eval()(pictures()), randomised(built(DEIT))(pictures()))
        method.finalize(model)
        assert not torch.allclose(model(pictures()), randomised(built(DEIT))(pictures()))


def test_a_full_budget_is_dense_attention():
    method = static(keep=1.0)
    model = model_with(method)
    method.finalize(model)
    with torch.no_grad():
        torch.testing.assert_close(
            model.eval()(pictures()), randomised(built(DEIT))(pictures()), rtol=1e-4, atol=1e-5
        )


def test_the_finished_map_is_one_byte_for_each_pair_in_memory_and_in_the_file(tmp_path):
    made = table.experiment(Row({"static_attention": {"samples": 12}}, vision=True))
    model, rows = table.run(made, tmp_path / "outputs", tmp_path / "journal")
    assert [row["name"].split(".")[1] for row in rows] == [
        "pattern",
        "sparsify",
        "distill",
        "recall",
    ]
    export(made, model, tmp_path / "export")
    stored = load_file(tmp_path / "export" / "model.safetensors")
    (method,) = made.methods.values()
    for fact, (path, layer) in zip(method.ledger(model), attentions(model).items(), strict=True):
        fixed = stored[f"{path}.connectivity.fixed"]
        assert fixed.dtype == torch.bool and fixed.shape == (4, 4, 5)
        assert torch.equal(fixed, layer.connectivity.get_buffer("fixed"))
        assert (fixed.sum(-1) == 2).all()
        assert fact.state_bytes == 4 * 4 * 5
        assert fact.macs == budgeted(5, WIDTH, 2, 1)  # nothing is computed to choose
        assert fact.density == fact.target == pytest.approx((4 * 2 + 5) / 25)


def test_what_was_baked_is_what_was_in_force():
    method = static(budget=5)
    model = model_with(method)
    stage = Stage("sparsify", share=0.0, seed=7)
    list(method.apply(stage, model, [{"x": ROWS}], ()))
    before = maps(model)
    with torch.no_grad():
        logits = model.eval()(pictures())
        method.finalize(model)
        assert torch.equal(model(pictures()), logits)
    assert torch.equal(maps(model), before)
    assert all(
        layer.connectivity.get_buffer("fixed").dtype == torch.bool
        for layer in attentions(model).values()
    )


def test_the_mean_pattern_finds_more_attention_than_a_random_one_and_no_more_than_the_largest():
    found = {}
    for kind in ("mean", "random"):
        method = static(budget=5, kind=kind)
        model = model_with(method)
        stage = Stage("sparsify", share=0.0, seed=7)
        list(method.apply(stage, model, [{"x": ROWS}], ()))
        found[kind] = method.figures(stage, model)
    for block in range(2):
        mean, chance = (found[kind][f"recall {block}"] for kind in ("mean", "random"))
        assert chance < mean <= found["mean"][f"oracle recall {block}"]
        # of the same rows, since here every stage is given the same ones
        assert mean == pytest.approx(found["mean"][f"static recall {block}"], rel=1e-6)
        assert chance == pytest.approx(5 / N, rel=0.3)


@pytest.mark.parametrize("kind", ["mean", "window", "random"])
def test_behind_token_pruning_the_budget_is_spent_among_those_that_are_left(kind):
    before = TokenPruning(keep=0.5, locations=(0,))  # 8 patches and the class token in block 1
    method = static(budget=6, kind=kind)
    model = model_with(method, before=before)
    list(method.apply(Stage("sparsify", seed=7), model, [{"x": ROWS}], ()))
    method.finalize(model)
    first, second = attentions(model).values()
    assert first.connectivity.get_buffer("fixed").dtype == torch.bool
    assert second.connectivity.get_buffer("fixed").dtype == torch.float32  # it chooses anew
    scores = second.connectivity.get_buffer("fixed")
    told = seen_by(model.eval(), pictures())
    assert [chosen.shape[-1] for _, chosen, _ in told] == [17, 9]
    for _, chosen, _ in told:
        assert (chosen[:, :, 1:].sum(-1) == 6).all()
    _, chosen, positions = told[1]
    for image, places in enumerate(positions):
        alive = scores[:, places[1:] - 1][..., places]  # (H, 8, 9)
        assert torch.equal(chosen[image, :, 1:], top_keys(alive, 6))
    facts = method.ledger(model)
    assert [fact.shape for fact in facts] == [(4, 17, 17), (4, 9, 9)]
    assert [fact.macs for fact in facts] == [budgeted(n, WIDTH, 6, 1) for n in (17, 9)]


def test_fewer_are_left_than_the_budget_and_all_are_kept():
    before = TokenPruning(keep=0.25, locations=(0,))  # 4 patches and the class token
    model = model_with(static(budget=9), before=before)
    told = seen_by(model.eval(), pictures())
    assert told[1][1].shape[-1] == 5 and told[1][1].all()


def test_another_resolution_is_refused():
    layer = next(iter(attentions(model_with(static())).values()))
    q = torch.randn(1, HEADS, 26, 8)
    with pytest.raises(StageError, match=r"static_attention: .* 17 tokens .* 26"):
        layer.connectivity(q, q)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"kind": "strided"}, "kind=strided: choose mean, window, random"),
        ({"keep": 1.5}, "keep=1.5: a share of the keys"),
        ({"budget": 18}, "budget=18: from 1 to 17"),
        ({"recover": 0.5}, "recover=0.5: 1, all steps train the backbone, or 0"),
        ({"samples": 25}, "samples=25 (and as many again)"),
    ],
)
def test_what_cannot_work_is_a_line(settings, line):
    made = Pictures()
    made.load()
    (found,) = StaticAttention(**{"samples": 12, **settings}).requirements(built(DEIT), made)
    assert line in found
    assert StaticAttention(samples=12).requirements(built(DEIT), made) == []
    assert "WindowAttention" in StaticAttention().requirements(built(SWIN), made)[0]
