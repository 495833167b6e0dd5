"""Linformer on small vision transformers: its projections, its products, what it refuses."""

import pytest
import torch

from gossamer import plan
from gossamer.compression.linformer import Linformer
from gossamer.compression.sparsifiner import Sparsifiner
from gossamer.compression.token_pruning import TokenPruning
from gossamer.contract import Stage
from gossamer.errors import StageError
from gossamer.measure.compute import macs
from gossamer.models.low_rank_attention import group_means, low_rank_attentions
from gossamer.models.parts import parts_of
from gossamer.sparsity import attention_macs
from tests.contract import table
from tests.contract.pictures import Pictures
from tests.contract.table import Row
from tests.models.vision import DEIT, SWIN, built, pictures, randomised

N, WIDTH, HEADS = 17, 32, 4  # of DEIT with pictures of 16 x 16


def prepared(**settings):
    """A random model of two blocks, and the method that changed its attention."""
    method = Linformer(**settings)
    model = randomised(built(DEIT))
    method.prepare(model)
    return model.eval(), method


def projected(**settings):
    """…, with the low rank in force."""
    model, method = prepared(**settings)
    assert list(method.apply(Stage("project"), model, [], ())) == list(low_rank_attentions(model))
    return model, method


@torch.no_grad()
def redrawn(layer):
    """Two projections that have nothing in common."""
    draw = torch.Generator().manual_seed(5)
    for projection in (layer.keys, layer.values):
        projection.copy_(torch.randn(projection.shape, generator=draw))


@pytest.mark.parametrize(("tokens", "rank"), [(17, 4), (17, 5), (17, 16), (197, 49), (5, 2)])
def test_each_column_is_the_mean_of_neighbours_and_the_class_token_has_its_own(tokens, rank):
    means = group_means(tokens, rank, prefix=1)
    assert means.shape == (tokens, rank)
    assert ((means > 0).sum(1) == 1).all()  # no token is in two groups
    torch.testing.assert_close(means.sum(0), torch.ones(rank))
    assert means[:, 0].nonzero().tolist() == [[0]]
    sizes = []
    for column in range(1, rank):
        places = means[:, column].nonzero()[:, 0].tolist()
        assert places == list(range(places[0], places[-1] + 1))
        assert len(means[places, column].unique()) == 1
        sizes.append(len(places))
    assert sum(sizes) == tokens - 1 and max(sizes) - min(sizes) <= 1


def test_a_rank_of_1_is_the_mean_of_all_tokens_and_a_full_one_changes_nothing():
    torch.testing.assert_close(group_means(17, 1, prefix=1), torch.full((17, 1), 1 / 17))
    assert torch.equal(group_means(17, 17, prefix=1), torch.eye(17))


def test_before_it_is_in_force_the_model_is_the_dense_one_bit_by_bit():
    model, method = prepared()
    dense, x = randomised(built(DEIT)), pictures()
    with torch.no_grad():
        before = dense(x)
        assert torch.equal(model(x), before)
        list(method.apply(Stage("project"), model, [], ()))
        assert not torch.allclose(model(x), before, atol=1e-3)
        method.enter(Stage("project"), model)
        assert torch.equal(model(x), before)


def test_with_as_many_keys_as_tokens_it_is_dense_attention():
    model, _ = projected(rank=N)
    x = pictures()
    with torch.no_grad():
        torch.testing.assert_close(model(x), randomised(built(DEIT))(x), rtol=1e-4, atol=1e-5)


def test_the_products_are_those_of_the_paper():
    model, _ = projected(rank=5)
    layer = next(iter(low_rank_attentions(model).values()))
    redrawn(layer)
    x = torch.randn(2, N, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        qkv = layer.qkv(x).reshape(2, N, 3, HEADS, 8)
        heads = []
        for head in range(HEADS):
            q, k, v = (qkv[:, :, which, head] for which in range(3))  # (B, n, d_h)
            scores = q @ (layer.keys.T @ k).transpose(1, 2) / 8**0.5  # (B, n, r)
            heads.append(scores.softmax(-1) @ (layer.values.T @ v))
        torch.testing.assert_close(layer(x), layer.proj(torch.cat(heads, -1)))


def test_the_map_has_the_rank_that_was_asked_for_and_no_zero():
    model, method = projected(rank=5)
    draw = torch.Generator().manual_seed(2)
    for layer in low_rank_attentions(model).values():
        redrawn(layer)
        q, k = torch.randn(2, 1, HEADS, N, 8, dtype=torch.float64, generator=draw)
        units = torch.eye(N, dtype=torch.float64).expand(1, HEADS, N, N)
        maps = layer.mixed(q, k, units)
        assert (torch.linalg.matrix_rank(maps, rtol=1e-9) == 5).all()
        assert (maps != 0).all()
    (check,) = method.verify(model, model)
    assert check.passed and check.figure == "5 of 17 tokens in 2 blocks"
    low_rank_attentions(model)["blocks.1.attn"].mode = "dense"
    (check,) = method.verify(model, model)
    assert not check.passed and "blocks.1.attn has rank 17" in check.figure


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_what_is_counted_is_the_closed_form_of_the_ledger(rank):
    model, method = projected(rank=rank)
    facts = method.ledger(model)
    assert [fact.name for fact in facts] == list(parts_of(model).attention)
    for fact in facts:
        assert fact.macs == attention_macs.low_rank(N, WIDTH, rank) == 4 * N * rank * WIDTH
        assert fact.dense_macs == 2 * N * N * WIDTH
        assert fact.density == fact.block_density == 1.0
    saved = sum(fact.dense_macs - fact.macs for fact in facts)
    inputs = {"x": pictures(1)}
    assert macs(randomised(built(DEIT)), inputs).total - macs(model, inputs).total == saved


def test_a_fourth_of_a_deits_tokens_saves_half_of_its_products():
    share = attention_macs.low_rank(197, 384, 197 // 4) / attention_macs.dense(197, 384)
    assert 1 - share == pytest.approx(0.503, abs=5e-4)


def test_one_pair_of_a_block_is_shared_by_its_heads_and_both_train_apart(tmp_path):
    made = table.experiment(Row({"linformer": {"rank": 3, "lr": 1e-2}}, vision=True))
    model, rows = table.run(made, tmp_path / "outputs", tmp_path / "journal")
    assert [row["name"] for row in rows] == ["linformer.project", "linformer.distill"]
    start = group_means(5, 3, prefix=1)
    for layer in low_rank_attentions(model).values():
        assert layer.keys.shape == layer.values.shape == (5, 3)
        for projection in (layer.keys, layer.values):
            assert not torch.allclose(projection, start, atol=1e-4)
        assert not torch.equal(layer.keys, layer.values)
        assert layer.mode == "low rank"


def test_the_reduction_gives_the_rank_unless_that_is_named():
    model = randomised(built(DEIT))
    assert Linformer().rank_of(model) == 4
    assert Linformer(reduce=3).rank_of(model) == 5
    assert Linformer(rank=9, reduce=3).rank_of(model) == 9


def test_without_training_there_is_no_stage_but_the_projection():
    assert [s.name for s in Linformer(recover=0).stages([Stage("train")])] == ["project"]


def test_another_resolution_is_refused():
    model, _ = projected()
    layer = next(iter(low_rank_attentions(model).values()))
    with pytest.raises(StageError, match=r"linformer: .* 17 tokens .* 26; .*dataset\.size"):
        layer(torch.randn(1, 26, WIDTH))
    with pytest.raises(ValueError, match="no mask"):
        layer(torch.randn(1, N, WIDTH), attn_mask=torch.ones(N, N, dtype=torch.bool))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"rank": 0}, "rank=0: from 1 to 17"),
        ({"rank": 18}, "rank=18: from 1 to 17"),
        ({"reduce": 0}, "reduce=0: from 1 to 17"),
        ({"reduce": 18}, "reduce=18: from 1 to 17"),
        ({"recover": 0.5}, "recover=0.5: 1, all steps train the model, or 0"),
        ({"kd": -1.0}, "kd=-1.0: from 0"),
        ({"ema": 1.0}, "ema=1.0: between 0 and 1"),
    ],
)
def test_what_cannot_work_is_a_line(settings, line):
    found = Linformer(**settings).requirements(built(DEIT), Pictures())
    assert any(line in one for one in found), found
    assert Linformer(rank=17).requirements(built(DEIT), Pictures()) == []


def test_windows_are_refused():
    (line,) = Linformer().requirements(built(SWIN), Pictures())
    assert "WindowAttention" in line and "model=vit model.source=deit_small_patch16_224" in line


@pytest.mark.parametrize(
    ("first", "then", "lost"),
    [
        (Linformer(), TokenPruning(), "low-rank attention"),
        (Linformer(), Sparsifiner(), "low-rank attention"),
        (TokenPruning(), Linformer(), "pruned tokens"),
        (Sparsifiner(), Linformer(), "sparse attention"),
    ],
)
def test_it_and_what_else_changes_attention_exclude_each_other(first, then, lost):
    (line,) = plan.order_problems({"one": first, "two": then})
    assert f"two would destroy the {lost} of one" in line
