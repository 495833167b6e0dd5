"""M: exact group counts, what each score depends on, what recovery may not change."""

import copy

import pytest
import torch

from gossamer.compression.dsee import DSEE
from gossamer.compression.dsee.adapter import AdaptedLinear
from gossamer.errors import StageError
from gossamer.models.parts import body_linears

from .built import one_shot, pruned, small, train, tuned

ADAPTED = ("query", "value")
OTHERS = ("key", "attention_output", "up", "down")


def group(model, roles) -> torch.Tensor:
    """The masks of one group in one vector."""
    return torch.cat([m.weight_mask.flatten() for m in body_linears(model, roles).values()])


def zeros(model, roles) -> tuple[int, int]:
    weights = [module.weight for module in body_linears(model, roles).values()]
    return sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)


@pytest.mark.parametrize("score", ["update", "weight", "merged", "random"])
@pytest.mark.parametrize(("sparsity", "own"), [(0.5, None), (0.3, 0.71), (0.8, 0.0), (0.0, 0.2)])
def test_each_group_has_exactly_its_share_of_zeros(score, sparsity, own):  # T10
    model = pruned(DSEE(sparsity=sparsity, update_sparsity=own, score=score), small())
    for roles, share in ((OTHERS, sparsity), (ADAPTED, sparsity if own is None else own)):
        count, total = zeros(model, roles)
        assert count == round(share * total)
        assert int((~group(model, roles)).sum()) == count


def test_the_groups_are_pruned_over_all_their_layers_together():  # T10
    model = pruned(DSEE(sparsity=0.5), small())
    masks = [m.weight_mask for m in body_linears(model, OTHERS).values()]
    densities = {float(mask.float().mean()) for mask in masks}
    assert len(densities) > 1
    kept = min(
        float(m.weight.detach().abs()[m.weight_mask].min())
        for m in body_linears(model, OTHERS).values()
    )
    before = small()
    dropped = max(
        float(body_linears(before)[path].weight.detach().abs()[~module.weight_mask].max())
        for path, module in body_linears(model, OTHERS).items()
    )
    assert dropped <= kept


def test_recovery_changes_no_mask_no_frozen_weight_and_no_zero():  # T7, T10
    method = DSEE(sparsity=0.5)
    model = pruned(method, small())
    before = copy.deepcopy(model.state_dict())
    train(method, model, "recover", steps=5)
    trained = ("U", "V", "values")
    changed = [n for n, t in model.state_dict().items() if not torch.equal(t, before[n])]
    assert {n.rpartition(".")[2] for n in changed if not n.startswith("classifier")} == set(trained)
    assert any(n.startswith("classifier") for n in changed)


def test_kept_weights_are_the_pretrained_ones_exactly():  # T11, trap 4
    start = body_linears(small())
    method = DSEE(sparsity=0.5)
    model = pruned(method, small())
    train(method, model, "recover")
    for path, module in body_linears(model).items():
        kept = module.weight_mask
        assert torch.equal(module.weight[kept], start[path].weight[kept]), path
        assert not module.weight[~kept].any(), path


def tuned_model(score="update", **kwargs):
    method = DSEE(sparsity=0.5, score=score, **kwargs)
    return method, tuned(method, small())


def test_update_scores_do_not_look_at_the_pretrained_weights():  # T12
    method, model = tuned_model("update")
    other = copy.deepcopy(model)
    for module in body_linears(other, ADAPTED).values():
        module.weight.data.normal_()
    one_shot(method, model, "prune")
    one_shot(method, other, "prune")
    assert torch.equal(group(model, ADAPTED), group(other, ADAPTED))


def test_update_scores_give_the_same_mask_for_a_scaled_update():  # T12
    method, model = tuned_model("update")
    other = copy.deepcopy(model)
    for module in body_linears(other, ADAPTED).values():
        module.scale *= 8
    one_shot(method, model, "prune")
    one_shot(method, other, "prune")
    assert torch.equal(group(model, ADAPTED), group(other, ADAPTED))


def test_weight_scores_do_not_look_at_the_update_and_merged_scores_do():  # T12
    masks = {}
    for score in ("weight", "merged"):
        method, model = tuned_model(score)
        other = copy.deepcopy(model)
        for module in body_linears(other, ADAPTED).values():
            module.U.data.normal_()
        one_shot(method, model, "prune")
        one_shot(method, other, "prune")
        masks[score] = (group(model, ADAPTED), group(other, ADAPTED))
    assert torch.equal(*masks["weight"])
    assert not torch.equal(*masks["merged"])


def test_layers_without_an_update_are_scored_by_their_weights_whatever_the_score():
    masks = [group(pruned(DSEE(score=s), small()), OTHERS) for s in ("update", "random")]
    assert torch.equal(*masks)


def test_random_masks_repeat_with_the_seed_and_differ_between_layers():
    first, second = (pruned(DSEE(score="random"), small()) for _ in range(2))
    assert torch.equal(group(first, ADAPTED), group(second, ADAPTED))
    query, value, *_ = body_linears(first, ADAPTED).values()
    assert not torch.equal(query.weight_mask, value.weight_mask)


def test_an_untrained_update_cannot_choose_a_mask():  # T13
    method = DSEE(sparsity=0.5)
    model = small()
    method.prepare(model)
    one_shot(method, model, "support")
    with pytest.raises(StageError, match=r"update is zero.*tune"):
        one_shot(method, model, "prune")


def test_an_update_with_too_few_non_zeros_to_fill_the_mask_is_refused_too():  # T13
    method, model = tuned_model()
    for module in body_linears(model, ADAPTED).values():
        module.U.data[: len(module.U) * 3 // 4] = 0
    with pytest.raises(StageError, match="update is zero on"):
        one_shot(method, model, "prune")


def test_the_mask_covers_the_weight_and_never_the_update():
    model = pruned(DSEE(sparsity=0.5), small())
    for module in body_linears(model, ADAPTED).values():
        assert isinstance(module, AdaptedLinear)
        outside = ~module.weight_mask
        assert torch.equal(module.merged()[outside], module.update()[outside])
        assert module.update()[outside].any()
