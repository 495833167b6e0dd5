"""Masks that live in an optimizer's state, where the engine does not compare the ranks, are the
same on all of them."""

import hashlib

import pytest
import torch.distributed as dist

from gossamer import crew
from gossamer.compression.cast import Cast
from gossamer.errors import StageError
from tests.contract import table
from tests.parallel.together import row


class Digested(Cast):
    """CAST that counts how many different sets of masks the ranks have."""

    def monitors(self, model, optimizer):
        masks = b"".join(masked.numpy().tobytes() for _, masked in optimizer.masked())
        everyone = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, hashlib.sha256(masks).hexdigest())
        return {**super().monitors(model, optimizer), "masks": float(len(set(everyone)))}


class Drawn(Digested):
    """… of which one rank has changed one bit."""

    def after_step(self, step, model, optimizer):
        if dist.get_rank() == 1:
            _, masked = next(iter(optimizer.masked()))
            masked[0, 0] ^= True


def figures(method, tmp_path) -> dict[str, float]:
    made = row("cast", devices=2, strategy="ddp")
    made.methods = {"cast": method}
    with crew.dismissed():
        _, rows = table.run(made, tmp_path / "outputs", tmp_path / "journal")
    return rows[0]["figures"]


def test_all_ranks_have_the_same_masks(tmp_path):
    """T20: by a digest of their bytes; counts would agree whatever they are."""
    seen = figures(Digested(decay=None, refresh=3), tmp_path)
    assert seen["masks"] == 1 and seen["flips_so_far"] > 0


def test_a_rank_with_another_mask_fails_the_stage(tmp_path):
    with pytest.raises(StageError, match="differs between the ranks"):
        figures(Drawn(decay=None, refresh=100), tmp_path)
