"""Sparsifiner on a small vision transformer: the invariants of its predictor, map, losses and
stages."""

import copy

import pytest
import torch

from gossamer.compression.sparsifiner.predictor import LowRank
from gossamer.contract import Stage
from gossamer.errors import StageError
from gossamer.models.attention import attentions, selective, tokens_of, watched
from gossamer.sparsity import attention_macs
from gossamer.sparsity.attention import (
    budget_of,
    probabilities,
    spread,
    top_keys,
    top_tiles,
    with_prefix,
)
from gossamer.sparsity.attention_paths import masked
from tests.contract import table
from tests.contract.table import PREDICTOR, Row, logits
from tests.models.vision import DEIT, built, pictures, randomised

SETTINGS = {
    "tokens": 17,
    "head_dim": 8,
    "heads": 4,
    "basis": 6,
    "channels": 4,
    "coefficients": 3,
    "threshold": 0.02,
    "scale": "heads",
    "tile": 1,
}


def predictor(budget=5, prefix=1, **settings):
    made = LowRank(budget, prefix, **{**SETTINGS, **settings})
    made.draw(torch.Generator().manual_seed(0))
    return made


def queries_and_keys(tokens=17, batch=2, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, batch, 4, tokens, 8, generator=draw).unbind(0)


def experiment(**settings):
    row = Row({"sparsifiner": {**PREDICTOR, **settings}}, vision=True)
    return table.experiment(row)


def prepared(made, stage=None):
    """The run's model with its predictors drawn, in a stage."""
    model = made.start()
    (method,) = made.methods.values()
    method.prepare(model)
    for place, layer in enumerate(attentions(model).values()):
        layer.connectivity.draw(torch.Generator().manual_seed(place))
    for one in method.stages([Stage("train")]):
        if one.name == stage:
            method.enter(one, model)
    return model, method


def spied(made, verb):
    """What the model is before each call of a verb: a list of deep copies."""
    (method,) = made.methods.values()
    real, seen = getattr(method, verb), []

    def wrapped(*given):
        seen.append(copy.deepcopy(next(g for g in given if hasattr(g, "parts"))))
        return real(*given)

    setattr(method, verb, wrapped)
    return seen


def test_the_predictor_of_a_deit_s_has_the_published_number_of_parameters():
    one = predictor(tokens=197, head_dim=64, heads=6, basis=197 // 6, channels=32, coefficients=8)
    assert sum(parameter.numel() for parameter in one.parameters()) == 16_768
    assert {name: tuple(p.shape) for name, p in one.named_parameters()} == {
        "down": (197, 32),
        "up": (197, 32),
        "query.weight": (32, 64),
        "query.bias": (32,),
        "key.weight": (32, 64),
        "key.bias": (32,),
    }


@pytest.mark.parametrize("keep", [0.25, 0.1, 0.05, 1.0])
def test_every_patch_keeps_its_budget_and_the_class_token_keeps_all(keep):
    budget = budget_of(keep, 17)
    mask = with_prefix(predictor(budget)(*queries_and_keys()), 1)
    assert (mask[:, :, 1:].sum(-1) == budget).all()
    assert mask[:, :, 0].all()


def test_the_same_input_has_the_same_map_after_another_budget_was_asked():
    small, large = predictor(2), predictor(9)
    q, k = queries_and_keys()
    before = large(q, k)
    few = torch.arange(6).expand(2, 6)  # fewer tokens than the budget are left
    assert large(*queries_and_keys(6), few).all()
    assert torch.equal(large(q, k), before)
    assert (small(q, k) <= before).all()


def test_coefficients_add_to_1_and_s_of_them_meet_a_basis_above_the_threshold():
    one = predictor()
    q, k = queries_and_keys()
    down = one.coefficients_of(q, k, None)
    torch.testing.assert_close(down.sum(-1), torch.ones(2, 4, 16))
    kept = down * top_keys(down, one.coefficients)
    assert ((kept > 0).sum(-1) == 3).all()
    basis = one.basis()
    assert (basis >= 0).all() and (basis[basis > 0] > 0.02).all() and (basis == 0).any()
    torch.testing.assert_close(one.scores(q, k, None), kept @ basis.T)
    assert one.basis_density() == pytest.approx(float((basis > 0).float().mean()))


@pytest.mark.parametrize(("scale", "kappa"), [("heads", 4**-0.5), ("dim", 4**-0.5)])
def test_scores_are_the_low_rank_product_of_the_notes(scale, kappa):
    one = predictor(scale=scale)
    q, k = queries_and_keys()
    for head in range(4):
        small_q = q[0, head] @ one.query.weight.T + one.query.bias
        small_k = k[0, head] @ one.key.weight.T + one.key.bias
        wanted = (small_q @ (small_k.T @ one.down) * kappa)[1:].softmax(-1)
        torch.testing.assert_close(one.coefficients_of(q, k, None)[0, head], wanted)


def test_the_scale_is_of_heads_or_of_channels():
    assert predictor(scale="heads", heads=6).kappa == pytest.approx(0.408, abs=1e-3)
    assert predictor(scale="dim", channels=32).kappa == pytest.approx(0.177, abs=1e-3)


def test_what_is_trained_has_the_rank_of_the_basis_and_the_map_more():
    one = predictor(basis=2, coefficients=2)
    q, k = queries_and_keys()
    found = []
    one.error.register_forward_hook(lambda module, inputs, output: found.append(inputs[0]))
    one.reconstruction(q, k, probabilities(q, k), None)
    assert (torch.linalg.matrix_rank(found[0], rtol=1e-4) <= 2).all()
    one = predictor()
    assert torch.linalg.matrix_rank(one(q, k).float()).max() > 6


def test_permuting_the_patches_with_the_rows_of_the_basis_permutes_the_map():
    # with all coefficients and no threshold, for zeros tie and ties go to the lower index
    one, other = (predictor(coefficients=6, threshold=0.0) for _ in range(2))
    q, k = queries_and_keys()
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(16)])
    with torch.no_grad():
        other.down.copy_(one.down[order])
        other.up.copy_(one.up[order])
    moved = other(q[:, :, order], k[:, :, order])
    kept = one(q, k)
    assert torch.equal(moved, kept[:, :, order[1:] - 1][..., order])
    assert not torch.equal(moved, kept)


def test_the_reconstruction_is_a_sum_over_entries_and_a_mean_over_the_batch():
    one = predictor(tokens=5, basis=2, coefficients=2)
    q, k = queries_and_keys(5, batch=3)
    attention = probabilities(q, k)
    total = 0.0
    for image in range(3):
        for head in range(4):
            small_q = q[image, head] @ one.query.weight.T + one.query.bias
            small_k = k[image, head] @ one.key.weight.T + one.key.bias
            down = (small_q @ (small_k.T @ one.down) * 0.5)[1:].softmax(-1)
            for row in range(4):
                for column in range(5):
                    guess = sum(down[row, b] * one.up[column, b] for b in range(2))
                    total += float((guess - attention[image, head, row + 1, column]) ** 2)
    loss = one.reconstruction(q, k, attention, None)
    assert float(loss) == pytest.approx(total / 3, rel=1e-5)
    doubled = one.reconstruction(*(torch.cat([t, t]) for t in (q, k, attention)), None)
    assert float(doubled) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(("tile", "tokens", "budget"), [(4, 17, 5), (8, 17, 9), (128, 300, 130)])
def test_tiles_are_chosen_from_sums_of_the_factors_as_from_scores_themselves(tile, tokens, budget):
    one = predictor(budget, tokens=tokens, tile=tile)
    q, k = queries_and_keys(tokens)
    wanted = top_tiles(one.scores(q, k, None), budget, tile, 1)
    assert torch.equal(one(q, k), wanted)
    tiles = one.tiles(q, k, None)
    assert (tiles is None) == (tile != 128)
    if tiles is not None:
        assert torch.equal(spread(tiles, tokens, tile, 1), wanted)


@pytest.mark.slow
def test_a_model_with_whole_tiles_computes_the_same_by_flex_as_by_mask(tmp_path):
    made = experiment(tile=128, budget=3)
    model, _ = prepared(made, "distill")
    x = next(iter(made.data.batches("test")))["x"]
    with torch.no_grad():
        masked_logits = model(x)
        for layer in attentions(model).values():
            layer.kernel = "flex"
        torch.testing.assert_close(model(x), masked_logits, rtol=1e-4, atol=1e-5)


def test_another_resolution_is_refused():
    with pytest.raises(StageError, match="17 tokens"):
        predictor()(*queries_and_keys(26))


def test_the_predictors_are_all_that_a_dense_checkpoint_lacks():
    dense = experiment().start()
    model, _ = prepared(experiment())
    missing, unexpected = model.load_state_dict(dense.state_dict(), strict=False)
    assert unexpected == []
    assert missing and all(".attn.connectivity." in key for key in missing)


def test_while_predictors_are_trained_the_model_is_the_dense_one():
    made = experiment()
    model, _ = prepared(made, "reconstruct")
    dense = made.start()
    torch.testing.assert_close(logits(made, model), logits(made, dense), rtol=1e-5, atol=1e-6)
    seen, taught = [], []
    x = next(iter(made.data.batches("test")))["x"]
    for layer in attentions(model).values():
        layer.connectivity.budget = 1  # a map has no influence
        layer.watch.append(lambda q, k, attention, *rest: seen.append(attention))
    for layer in selective(dense).values():
        layer.qkv.register_forward_hook(lambda module, inputs, output: taught.append(output))
    with torch.no_grad():
        torch.testing.assert_close(model(x), dense(x), rtol=1e-5, atol=1e-6)
    for attention, qkv in zip(seen, taught, strict=True):
        q, k, _ = qkv.reshape(len(x), -1, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        torch.testing.assert_close(attention, probabilities(q, k), rtol=1e-4, atol=1e-6)


def test_a_full_budget_is_dense_attention():
    made = experiment(keep=1.0)
    model, _ = prepared(made, "distill")
    torch.testing.assert_close(
        logits(made, model), logits(made, made.start()), rtol=1e-5, atol=1e-6
    )


def test_attention_stands_on_the_map_alone():
    made = experiment(keep=0.4)
    model, _ = prepared(made, "distill")
    layer = next(iter(attentions(model).values()))
    seen = []
    with watched(layer, lambda q, k, attention, mask, where: seen.append((q, k, mask))):
        x = next(iter(made.data.batches("test")))["x"]
        model(x)
    ((q, k, mask),) = seen
    kept = probabilities(q, k, mask)
    assert (kept[~mask] == 0).all()
    torch.testing.assert_close(kept.sum(-1), torch.ones(kept.shape[:-1]))
    # a value changes nothing where it is not kept
    v = torch.randn(q.shape)
    rows = mask[:, :, 1:]
    image, head, query, key = (~rows).nonzero()[0]
    before = masked(q, k, v, rows, 1, 0.0)
    v[image, head, key] += 100
    after = masked(q, k, v, rows, 1, 0.0)
    others = ~rows[image, head, :, key]  # the queries that do not keep it
    assert others[query] and torch.equal(
        before[image, head, 1:][others], after[image, head, 1:][others]
    )
    assert not torch.equal(before[image, head, 0], after[image, head, 0])


def test_no_loss_but_the_reconstruction_reaches_a_predictor():
    made = experiment(recover=0.5)
    model, _ = prepared(made, "distill")
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # also those that the stage freezes
    model.train()
    batch = made.data.on_device(made.data.sample(4))
    made.task.loss(batch, made.task.forward(model, batch)).backward()
    grads = {name: p.grad for name, p in model.named_parameters() if "connectivity" in name}
    assert grads and all(grad is None for grad in grads.values())


def test_the_reconstruction_reaches_queries_and_keys_but_no_value():
    made = experiment(recover=0.5)
    model, _ = prepared(made, "reconstruct")
    layer = next(iter(attentions(model).values()))
    layer.qkv.requires_grad_(True)
    errors = []
    layer.connectivity.error.register_forward_hook(lambda m, i, out: errors.append(out))
    model.train()(made.data.sample(4)["x"])
    errors[0].backward()
    gradient = layer.qkv.weight.grad.reshape(3, -1)
    assert (gradient[:2].abs().sum(1) > 0).all() and (gradient[2] == 0).all()
    assert all(p.grad is not None for p in layer.connectivity.parameters())


def test_the_backbone_keeps_every_bit_while_predictors_train_and_they_while_it_does(tmp_path):
    made = experiment(recover=0.5, keep=0.4)
    entered = spied(made, "enter")
    model, rows = table.run(made, tmp_path / "outputs", tmp_path / "journal")
    assert [row["name"].split(".")[1] for row in rows] == [
        "draw",
        "reconstruct",
        "sparsify",
        "distill",
        "recall",
    ]
    drawn, fitted, trained = entered[1], entered[2], entered[4]
    for name, tensor in fitted.state_dict().items():
        mine = "connectivity" in name
        if tensor.is_floating_point() and not name.endswith("seen"):
            assert torch.equal(tensor, drawn.state_dict()[name]) != mine, name
            assert torch.equal(tensor, trained.state_dict()[name]) == mine, name
    for row in rows:
        if row["name"].endswith(("sparsify", "recall")):
            for block in range(2):
                recall = [row["figures"][f"{who}recall {block}"] for who in ("", "oracle ")]
                assert 0 < recall[0] <= recall[1] <= 1
    assert all(layer.mode == "sparse" for layer in attentions(model).values())


def test_training_the_predictors_lowers_their_error_and_raises_their_recall(tmp_path):
    torch.manual_seed(0)
    model = randomised(built(DEIT))
    layers = selective(model)
    path, layer = next(iter(layers.items()))
    one = predictor(5, basis=8, coefficients=8)
    layer.connectivity, layer.mode = one, "dense"
    seen = []
    with watched(layer, lambda *given: seen.append(given[:4])), torch.no_grad():
        model(pictures(64))
    q, k, attention, before = seen[0]
    optimizer = torch.optim.AdamW(one.parameters(), lr=1e-2, weight_decay=0)
    losses = []
    for _ in range(150):
        loss = one.reconstruction(q, k, attention, None)
        losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2
    rows = attention[:, :, 1:]
    after, oracle = one(q, k), top_keys(rows, 5)
    recall = [float((rows * mask).sum(-1).mean()) for mask in (before[:, :, 1:], after, oracle)]
    assert recall[0] < recall[1] <= recall[2]
    assert recall[1] > 5 / 17
    assert path == "blocks.0.attn"


def test_the_ledger_counts_products_and_predictor_by_the_closed_form(tmp_path):
    made = experiment(recover=0.0, keep=0.4)
    model, _ = table.run(made, tmp_path / "outputs", tmp_path / "journal")
    (method,) = made.methods.values()
    tokens = tokens_of(model)
    for fact, layer in zip(method.ledger(model), attentions(model).values(), strict=True):
        one = layer.connectivity
        assert fact.macs == attention_macs.budgeted(tokens, 32, 2, 1) + attention_macs.predictor(
            tokens, 32, 4, channels=4, basis=2, kept=2, density=one.basis_density()
        )
        assert fact.dense_macs == attention_macs.dense(tokens, 32)
        assert fact.density == pytest.approx((4 * 2 + 5) / 25) and fact.target == fact.density
        assert fact.block_density == 1.0


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"keep": 0.0}, "keep=0.0: a share of the keys, above 0 and to 1"),
        ({"keep": (0.5,)}, "keep=[0.5]: one number, or 2, one for each block"),
        ({"budget": 6}, "budget=6: from 1 to 5"),
        ({"budget": (2, 3, 4)}, "budget=[2, 3, 4]: one number, or 2"),
        ({"reduce_n": 9}, "reduce_n=9: from 1 to 5"),
        ({"reduce_c": 9}, "reduce_c=9: from 1 to 8"),
        ({"coefficients": 0}, "coefficients=0: from 1"),
        ({"kind": "guessed"}, "kind=guessed: choose learned, oracle"),
        ({"scale": "channels"}, "scale=channels: choose heads, dim"),
        ({"kernel": "fast"}, "kernel=fast: choose masked"),
        ({"threshold": -1.0}, "threshold=-1.0: from 0"),
        ({"reconstruction": 0.0}, "reconstruction=0.0: above 0"),
        ({"samples": 25}, "samples=25 (and as many again)"),
    ],
)
def test_what_cannot_work_is_a_line(settings, line):
    made = experiment(**settings)
    (method,) = made.methods.values()
    assert any(line in found for found in method.requirements(made.meta(), made.data))


def test_budgets_are_shares_or_counts_for_all_blocks_or_each():
    for settings, wanted in (
        ({"keep": 0.4}, [2, 2]),
        ({"keep": (0.4, 1.0)}, [2, 5]),
        ({"budget": 3}, [3, 3]),
        ({"budget": (1, 4)}, [1, 4]),
    ):
        model, method = prepared(experiment(**settings))
        assert method.budgets(model) == wanted
        assert [layer.connectivity.budget for layer in attentions(model).values()] == wanted
