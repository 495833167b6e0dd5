"""What is kept and what is not stands where it must in the picture."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.models.attention import SelectiveAttention, selective
from gossamer.models.attention_maps import kept_maps, spread
from gossamer.models.attention_pictures import (
    CELL,
    GAP,
    GROUND,
    HEAD,
    QUERY,
    cell,
    connectivity_pictures,
    patch_size,
)
from tests.models.vision import DEIT, INFO, built, pictures

GRID, PREFIX, HEADS = (4, 4), 1, 4  # 16 x 16 pixels in patches of 4


class Chosen(nn.Module):
    """Each query keeps the class token and the same patches, some of them in half of the heads."""

    def __init__(self, always: tuple[int, ...], half: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.always, self.half = always, half

    def forward(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
        batch, heads = q.shape[:2]
        rows = torch.zeros(batch, heads, 17 - PREFIX, 17, dtype=torch.bool)
        rows[..., 0] = True
        rows[..., [PREFIX + patch for patch in self.always]] = True
        rows[:, : heads // 2, :, [PREFIX + patch for patch in self.half]] = True
        if positions is None:
            return rows
        return torch.stack(
            [
                r[:, there[PREFIX:] - PREFIX][:, :, there]
                for r, there in zip(rows, positions, strict=True)
            ]
        )


def model_with(*connectivities: nn.Module | None, **sizes: Any) -> nn.Module:
    model = built({**DEIT, **sizes})
    for attention, chosen in zip(selective(model).values(), connectivities, strict=True):
        attention.connectivity = chosen
    return model


def batch(rows: int = 2, value: int = 200) -> dict[str, Tensor]:
    return {"x": pictures(rows), "pixels": torch.full((rows, 16, 16, 3), value, dtype=torch.uint8)}


def patch_of(sheet: Tensor, row: int, column: int, patch: int) -> Tensor:
    """(3,) The middle of a patch in a cell of a sheet."""
    size = patch_size(GRID, 16)
    top = HEAD + row * (4 * size + GAP) + patch // 4 * size + size // 2
    left = GAP + column * (4 * size + GAP) + patch % 4 * size + size // 2
    return sheet[top, left].int()


def edge_of(sheet: Tensor, row: int, column: int, patch: int) -> list[int]:
    size = patch_size(GRID, 16)
    top = HEAD + row * (4 * size + GAP) + patch // 4 * size - 1
    left = GAP + column * (4 * size + GAP) + patch % 4 * size + size // 2
    return sheet[top, left].tolist()


def test_what_all_heads_keep_is_bright_and_what_none_keeps_is_dark() -> None:
    model = model_with(Chosen((0, 5), half=(15,)), Chosen((3,)))
    first, second = connectivity_pictures(model, batch(), queries=((0.6, 0.6),))
    assert first.pixels.dtype == torch.uint8 and first.pixels.shape[2] == 3
    for sheet in (first.pixels, second.pixels):
        picture, all_heads, half, none = (
            patch_of(sheet, 0, *place) for place in ((0, 7), (1, 0), (1, 15), (1, 7))
        )
        assert picture.tolist() == [200, 200, 200]
        assert none.tolist() == [40, 40, 40]
        assert (half - none).abs().sum() > 0
        torch.testing.assert_close(half, (all_heads + none) // 2, atol=1, rtol=0)
        assert all_heads[0] > 3 * none[0] and all_heads[2] < all_heads[0]  # bright, and warm
        assert patch_of(sheet, 0, 1, 5).tolist() == all_heads.tolist()
        # the second layer keeps another patch
        assert patch_of(sheet, 0, 2, 3).tolist() == all_heads.tolist()
        assert patch_of(sheet, 0, 2, 0).tolist() == none.tolist()


def test_a_black_patch_that_is_kept_is_told_from_one_that_is_not() -> None:
    share, alive = torch.tensor([1.0] + [0.0] * 15), torch.ones(16, dtype=torch.bool)
    drawn = cell(torch.zeros(16, 16, 3, dtype=torch.uint8), GRID, share, alive)
    assert drawn.getpixel((2, 2))[0] > 80 and drawn.getpixel((drawn.width - 2, 2)) == (0, 0, 0)


def test_the_query_is_outlined_in_its_row_and_nowhere_else() -> None:
    model = model_with(Chosen(()), Chosen(()))
    (one,) = connectivity_pictures(model, batch(1), queries=((0.3, 0.6), (0.9, 0.1), (0, 0)))
    for row, patch, other in ((0, 6, 12), (1, 12, 6), (2, 0, 6)):
        for column in range(3):
            assert edge_of(one.pixels, row, column, patch) == list(QUERY)
            assert edge_of(one.pixels, row, column, other) != list(QUERY)


def test_the_map_is_of_the_query_in_its_own_row() -> None:
    class Itself(nn.Module):
        def forward(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
            return torch.eye(17, dtype=torch.bool)[1:].expand(len(q), HEADS, 16, 17)

    model = model_with(Itself(), Itself())
    (one,) = connectivity_pictures(model, batch(1), queries=((0.3, 0.6), (0.9, 0.1)))
    for row, own, other in ((0, 6, 12), (1, 12, 6)):
        assert patch_of(one.pixels, row, 1, own)[0] > 150 > patch_of(one.pixels, row, 1, other)[0]


class Removing(nn.Module):
    """In a block's place: the tokens of even patches go on, and attention is told which."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.attn, self.norm1 = block.attn, block.norm1

    def forward(self, x: Tensor) -> Tensor:
        positions = torch.tensor([0, *range(1, 17, 2)]).expand(len(x), 9)
        assert isinstance(self.attn, SelectiveAttention)
        left = x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))
        return left + self.attn(self.norm1(left), positions=positions)


def test_removed_patches_are_crossed_out_and_the_others_stay_in_their_place() -> None:
    model = model_with(Chosen((0, 1)), Chosen((0, 1, 10)))
    model.blocks[1] = Removing(model.blocks[1])
    (_, (first, second)) = kept_maps(model, pictures(2), (6, 7))
    assert first.alive.all() and first.tokens == 17
    assert second.alive.nonzero()[:, 0].tolist() == [*range(0, 16, 2)]
    assert second.tokens == 9 and second.keys == 3  # the class token, 0 and 10
    assert second.share[0].nonzero()[:, 0].tolist() == [0, 10]
    assert second.share[1].sum() == 0
    (one,) = connectivity_pictures(model, batch(1), queries=((0.9, 0.6), (0.9, 0.9)))
    assert patch_of(one.pixels, 1, 2, 10)[0] == 40, "a query that was removed keeps nothing"
    assert patch_of(one.pixels, 0, 2, 10)[0] > 150 > patch_of(one.pixels, 0, 2, 2)[0] == 40
    size = patch_size(GRID, 16)
    corner = (HEAD + 1, GAP + 2 * (4 * size + GAP) + size + 1)  # of patch 1
    assert one.pixels[corner].tolist() == list(GROUND)
    assert "removed before that layer" in one.caption


def test_first_middle_and_last_of_the_layers_that_choose_are_shown() -> None:
    assert [spread(n, 3) for n in (0, 1, 2, 3, 4, 12)] == [
        [],
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 3],
        [0, 5, 11],
    ]
    model = model_with(None, Chosen((0,)), Chosen((0,)), Chosen((0,)), Chosen((0,)), layers=5)
    (found,) = kept_maps(model, pictures(1), (0,))
    assert [one.layer for one in found] == [2, 3, 5]
    assert found[0].keys == 2 and found[0].heads == HEADS


def test_a_model_that_chooses_nothing_has_no_picture() -> None:
    assert connectivity_pictures(model_with(None, None), batch()) == []


def test_the_model_is_left_as_it_was_and_draws_the_same_again() -> None:
    model = model_with(Chosen((1,)), Chosen((2,))).train()
    first = connectivity_pictures(model, batch())
    assert model.training and all(not one.watch for one in selective(model).values())
    again = connectivity_pictures(model, batch())
    assert [one.name for one in first] == [one.name for one in again] == ["keys-1", "keys-2"]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))


def test_without_pixels_the_patches_are_grey() -> None:
    model = model_with(Chosen((1,)), Chosen((2,)))
    (one,) = connectivity_pictures(model, {"x": pictures(1)})
    assert patch_of(one.pixels, 0, 0, 7).tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    ("grid", "height", "size"),
    [((8, 8), 32, 20), ((7, 7), 28, 24), ((4, 4), 16, 40), ((14, 14), 224, 12), ((24, 24), 384, 7)],
)
def test_a_patch_is_drawn_in_whole_pixels_of_its_own_where_it_fits(
    grid: tuple[int, int], height: int, size: int
) -> None:
    assert patch_size(grid, height) == size <= CELL // max(grid)
    own = height // grid[0]
    assert size % own == 0 or own > size


def test_pictures_that_are_wider_than_high_are_drawn_too() -> None:
    info = replace(INFO, image=(3, 8, 16))
    model = built(DEIT, info=info)

    class All(nn.Module):
        def forward(self, q: Tensor, k: Tensor, positions: Tensor | None) -> Tensor:
            return torch.ones(1, HEADS, 8, 9).bool()

    for attention in selective(model).values():
        attention.connectivity = All()
    pixels = torch.zeros(1, 8, 16, 3, dtype=torch.uint8)
    (one,) = connectivity_pictures(model, {"x": torch.zeros(1, 3, 8, 16), "pixels": pixels})
    assert one.pixels.shape[1] > one.pixels.shape[0] - HEAD
