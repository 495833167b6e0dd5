"""Token pruning on small vision transformers: who stays, what that saves, what is refused."""

import math

import pytest
import torch

from gossamer import plan
from gossamer.compression.sparsifiner import Sparsifiner
from gossamer.compression.static_attention import StaticAttention
from gossamer.compression.token_pruning import TokenPruning
from gossamer.compression.wanda import Wanda
from gossamer.contract import Stage
from gossamer.measure.compute import macs
from gossamer.models.attention import attentions
from gossamer.models.parts import parts_of
from gossamer.models.token_blocks import alive, kept_tokens, positions_left, pruned_blocks
from gossamer.models.token_distilled import token_loss
from gossamer.sparsity.attention import probabilities
from tests.contract import table
from tests.contract.pictures import Pictures
from tests.contract.table import Row
from tests.models.vision import DEIT, SWIN, built, pictures, randomised

FOUR = {**DEIT, "layers": 4}  # 16 patches and a class token, 32 wide, 4 heads
WIDTH, HEADS, NEURONS, EVERY = 32, 4, 49, 16


def pruned(**settings):
    """A random model of four blocks that removes tokens, and the method."""
    method = TokenPruning(**settings)
    model = randomised(built(FOUR))
    method.prepare(model)
    list(method.apply(Stage("prune_tokens"), model, [], ()))
    return model.eval(), method


def passed(model, x):
    """(logits, [(keys of the attention, tokens that leave) of each block])"""
    seen, handles = [], []
    for block in pruned_blocks(model):
        hook = block.attn.qkv.register_forward_hook(lambda m, i, out: seen.append([out.shape[1]]))
        handles.append(hook)
        hook = block.register_forward_hook(lambda m, i, out: seen[-1].append(out[0].shape[1]))
        handles.append(hook)
    with torch.no_grad():
        logits = model(x)
    for handle in handles:
        handle.remove()
    return logits, [tuple(counts) for counts in seen]


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({}, [16, 12, 8, 6]),  # ceil of 11.2, 7.84 and 5.488
        ({"keep": 0.5}, [16, 8, 4, 2]),
        ({"keep": 0.5, "locations": (0,)}, [8, 8, 8, 8]),
        ({"keep": 0.5, "locations": (3, 0)}, [8, 8, 8, 4]),
        ({"keep": 0.01}, [16, 1, 1, 1]),
    ],
)
def test_so_many_patches_are_left_behind_each_block(settings, counts):
    model, method = pruned(**settings)
    _, seen = passed(model, pictures())
    assert [leave - 1 for _, leave in seen] == counts == method.alive(model)
    assert [keys - 1 for keys, _ in seen] == [EVERY, *counts[:-1]]  # those removed are no keys
    (check,) = method.verify(model, model)
    assert check.passed and check.figure == ", ".join(map(str, dict.fromkeys(counts)))


def test_on_a_deit_it_is_the_schedule_of_the_released_code():
    ratios = [1, 0.7, 0.7**2, 0.7**3]
    wanted = [math.ceil(round(ratio * 196, 6)) for ratio in ratios for _ in range(3)]
    assert alive(196, 0.7, (3, 6, 9), 12) == wanted
    assert wanted[::3] == [196, 138, 97, 68]


def test_the_places_are_quarters_of_the_depth():
    assert TokenPruning().places(built({**DEIT, "layers": 12})) == (3, 6, 9)
    assert TokenPruning().places(built(FOUR)) == (1, 2, 3)
    assert TokenPruning().places(built(DEIT)) == (0, 1)
    assert TokenPruning(locations=(1,)).places(built(FOUR)) == (1,)


def test_who_stays_is_attended_to_most_in_order_and_ties_go_to_the_lower_place():
    scores = torch.tensor([[0.1, 0.5, 0.2, 0.9], [0.3, 0.3, 0.3, 0.3], [0.2, 0.7, 0.7, 0.7]])
    assert kept_tokens(scores, 2, 1).tolist() == [[0, 2, 4], [0, 1, 2], [0, 2, 3]]
    assert kept_tokens(scores, 4, 2).tolist() == [[0, 1, 2, 3, 4, 5]] * 3


def test_the_positions_are_those_of_the_grid_and_each_block_keeps_some_of_the_last():
    model, method = pruned()
    before, told = None, []
    for block in pruned_blocks(model):
        block.register_forward_hook(lambda module, inputs, out: told.append(out[1]))
    with torch.no_grad():
        model(pictures())
    assert told[0] is None
    for positions, count in zip(told[1:], method.alive(model)[1:], strict=True):
        assert positions.shape == (3, count + 1)
        assert (positions[:, 0] == 0).all() and (positions.diff(dim=1) > 0).all()
        if before is not None:
            for now, then in zip(positions.tolist(), before.tolist(), strict=True):
                assert {*now} <= {*then}
        before = positions
    assert torch.equal(positions_left(model), told[-1])
    assert len(torch.unique(told[-1], dim=0)) == 3  # it is another choice for each picture


@torch.no_grad()
def kept_in_their_places(dense, x, counts, garbage):
    """(B, 17, d) and (B, 17): the last norm's output of a model that keeps dead tokens in memory,
    with `garbage` in their places, and hides them from every key; and who is alive."""
    live = torch.ones(len(x), EVERY + 1, dtype=torch.bool)
    states = dense._pos_embed(dense.patch_embed(x))
    for block, count in zip(dense.blocks, counts, strict=True):
        core = block.attn
        qkv = core.qkv(block.norm1(states)).reshape(len(x), -1, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attention = probabilities(q, k, live[:, None, None, :])
        states = states + core.proj((attention @ v).transpose(1, 2).flatten(2))
        score = attention[:, :, 0].mean(1).masked_fill(~live, -1.0)[:, 1:]
        best = score.topk(count, dim=1).indices + 1
        live = torch.zeros_like(live).scatter(1, best, True)
        live[:, 0] = True
        states[~live] = garbage
        states = states + block.mlp(block.norm2(states))
    return dense.norm(states), live


@pytest.mark.parametrize("garbage", [0.0, 1e3])
def test_survivors_do_not_depend_on_what_stands_in_the_place_of_the_dead(garbage):
    model, method = pruned()
    x = pictures()
    states, live = kept_in_their_places(randomised(built(FOUR)), x, method.alive(model), garbage)
    found = []
    model.norm.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        model(x)
    torch.testing.assert_close(found[0], states[live].view(3, -1, WIDTH), rtol=1e-4, atol=1e-5)
    assert torch.equal(positions_left(model), live.nonzero()[:, 1].view(3, -1))


def test_keeping_all_is_the_dense_model():
    model, _ = pruned(keep=1.0)
    with torch.no_grad():
        assert torch.equal(model(pictures()), randomised(built(FOUR))(pictures()))


def test_before_it_is_in_force_no_token_is_removed():
    method, model = TokenPruning(), randomised(built(FOUR))
    method.prepare(model)
    logits, seen = passed(model, pictures())
    assert seen == [(17, 17)] * 4
    with torch.no_grad():
        assert torch.equal(logits, randomised(built(FOUR))(pictures()))
    method.enter(Stage("distill"), model)
    assert passed(model, pictures())[1][-1] == (9, 7)


@pytest.mark.parametrize("settings", [{}, {"keep": 0.5, "locations": (0, 2)}])
def test_counted_operations_fall_as_the_closed_form_says(settings):
    model, method = pruned(**settings)
    left = [count + 1 for count in method.alive(model)]

    def block(reach, leave):
        """n tokens to queries, keys, values and out; their products; n' to the feed-forward."""
        return 4 * reach * WIDTH**2 + 2 * reach**2 * WIDTH + 2 * leave * WIDTH * NEURONS

    saved = 0
    for place, (reach, leave) in enumerate(zip([EVERY + 1, *left], left, strict=False)):
        saved += block(EVERY + 1, EVERY + 1) - block(reach, leave)
        if place in method.places(model):
            saved -= reach * WIDTH  # the class token's row, asked for once more
    inputs = {"x": pictures(1)}
    assert saved > 0
    assert macs(randomised(built(FOUR)), inputs).total - macs(model, inputs).total == saved


def test_the_ledger_has_the_products_of_those_that_reach_a_block():
    model, method = pruned(keep=0.5)
    facts = method.ledger(model)
    assert [fact.name for fact in facts] == list(parts_of(model).attention)
    assert [fact.shape for fact in facts] == [(HEADS, n, n) for n in (17, 17, 9, 5)]
    assert [fact.macs for fact in facts] == [2 * n * n * WIDTH for n in (17, 17, 9, 5)]
    assert {fact.dense_macs for fact in facts} == {2 * 17 * 17 * WIDTH}
    assert [fact.changed for fact in facts] == [False, False, True, True]
    assert [bool(fact.skipped) for fact in facts] == [True, True, False, False]


def test_the_tokens_loss_is_of_survivors_and_of_the_teachers_at_their_places():
    draw = torch.Generator().manual_seed(1)
    mine, theirs = (torch.randn(1, tokens, 4, generator=draw) for tokens in (3, 5))
    loss = token_loss(mine, theirs, 1, torch.tensor([[0, 2, 4]]))
    wanted = ((mine[0, 1] - theirs[0, 2]) ** 2 + (mine[0, 2] - theirs[0, 4]) ** 2).mean() / 2
    torch.testing.assert_close(loss, wanted)


def test_training_keeps_the_removal_in_force_and_the_teacher_keeps_its_tokens(tmp_path):
    settings = {"keep": 0.5, "locations": (0,), "lr": 1e-2}
    made = table.experiment(Row({"token_pruning": settings}, vision=True))
    model, rows = table.run(made, tmp_path / "outputs", tmp_path / "journal")
    assert [row["name"].split(".")[1] for row in rows] == ["prune_tokens", "distill"]
    assert all(block.active for block in pruned_blocks(model))
    assert positions_left(model.eval()) is not None


def test_what_comes_after_it_chooses_among_those_that_are_left():
    model, _ = pruned(keep=0.5)
    then = Sparsifiner(budget=6, kind="oracle", recover=0)
    then.prepare(model)
    then.finalize(model)
    told = {}
    layers = attentions(model)
    for path, layer in layers.items():
        layer.watch.append(
            lambda q, k, attention, chosen, where, path=path: told.update({path: chosen})
        )
    with torch.no_grad():
        model(pictures())
    for path, tokens in zip(layers, (17, 17, 9, 5), strict=True):
        assert told[path].shape[-2:] == (tokens, tokens)
        assert (told[path][:, :, 1:].sum(-1) == min(6, tokens)).all()
        assert told[path][:, :, 0].all()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"keep": 0.0}, "keep=0.0: a share of the patches, above 0 and to 1"),
        ({"keep": 1.5}, "keep=1.5: a share of the patches"),
        ({"locations": (4,)}, "locations=[4]: different blocks from 0 to 3, e.g. [2]"),
        ({"locations": (-1,)}, "locations=[-1]: different blocks from 0 to 3"),
        ({"locations": (1, 1)}, "locations=[1, 1]: different blocks"),
        ({"locations": ()}, "locations=[]: different blocks"),
        ({"recover": 0.5}, "recover=0.5: 1, all steps train the backbone, or 0"),
        ({"cls": 0.0, "kd": 0.0, "tokens": 0.0}, "nothing to learn from"),
    ],
)
def test_what_cannot_work_is_a_line(settings, line):
    (found,) = TokenPruning(**settings).requirements(built(FOUR), Pictures())
    assert line in found
    assert TokenPruning().requirements(built(FOUR), Pictures()) == []


@pytest.mark.parametrize(
    ("model", "word"),
    [(SWIN, "SwinTransformerBlock"), ({**DEIT, "source": "vit_medium_patch16_gap_240"}, "class")],
)
def test_models_without_a_class_token_are_refused(model, word):
    (line,) = TokenPruning().requirements(built(model), Pictures())
    assert word in line and "model=vit model.source=deit_small_patch16_224" in line


@pytest.mark.parametrize(
    ("names", "methods", "line"),
    [
        (
            ("sparsifiner", "token_pruning"),
            (Sparsifiner(), TokenPruning()),
            "token_pruning would destroy the sparse attention of sparsifiner; "
            "name token_pruning before sparsifiner",
        ),
        (
            ("token_pruning", "wanda"),
            (TokenPruning(), Wanda()),
            "wanda would destroy the pruned tokens of token_pruning; "
            "name wanda before token_pruning",
        ),
    ],
)
def test_the_wrong_order_is_a_line_that_says_what_to_type(names, methods, line):
    (found,) = plan.order_problems(dict(zip(names, methods, strict=True)))
    assert line in found
    for later in (Sparsifiner(), StaticAttention()):
        assert plan.order_problems({"token_pruning": TokenPruning(), "then": later}) == []


@pytest.mark.parametrize(("keep", "whole", "attention"), [(0.7, 0.348, 0.460), (0.5, 0.504, 0.585)])
def test_a_deit_s_has_as_many_macs_fewer_as_the_page_says(keep, whole, attention):
    width, patches, counted = 384, 196, 4_598_882_304  # as tests/measure counts the dense model
    behind = alive(patches, keep, (3, 6, 9), 12)
    entering = [patches, *behind[:-1]]
    products = sum(2 * (count + 1) ** 2 * width for count in entering)
    dense = 12 * 2 * (patches + 1) ** 2 * width
    assert 1 - products / dense == pytest.approx(attention, abs=5e-4)
    gone = sum(
        4 * (patches - before) * width**2 + 8 * (patches - after) * width**2
        for before, after in zip(entering, behind, strict=True)
    )
    scores = sum((entering[block] + 1) * width for block in (3, 6, 9))  # the class token's again
    assert (gone + dense - products - scores) / counted == pytest.approx(whole, abs=5e-4)
