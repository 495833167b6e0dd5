"""FlexAttention computes the same, is compiled or fails, and says what it cannot do."""

import pytest
import torch

from gossamer.errors import StageError
from gossamer.sparsity import attention_flex
from gossamer.sparsity.attention import TILE, spread, tile_density, with_prefix
from gossamer.sparsity.attention_paths import ATTEND
from tests.sparsity.maps import chosen, drawn

masked, gather, flex = ATTEND["masked"], ATTEND["gather"], ATTEND["flex"]
cuda = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
on_cuda = pytest.param("cuda", marks=cuda)

# A program takes some seconds to compile: few shapes, and everything that can be wrong in each.


def uneven(tokens: int, prefix: int) -> torch.Tensor:
    """Rows of several counts, without a key too, an empty tile and full ones."""
    rows = chosen(1, 2, tokens, prefix, 20)
    rows[:, :, 5] = False
    rows[:, :, 9, : tokens // 2] = False
    rows[:, 0, : TILE - prefix, TILE:] = False
    rows[:, 1, : TILE - prefix, :TILE] = True
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", on_cuda])
@pytest.mark.parametrize("prefix", [0, 2])
def test_flex_equals_masked_and_gathered_for_any_map(device, prefix):
    tokens = 197
    q, k, v = (x.to(device) for x in drawn(1, 2, tokens, 16))
    for rows in (uneven(tokens, prefix), chosen(1, 2, tokens, prefix, 50)):
        given = (q, k, v, rows.to(device), prefix, 0.0)
        found, expected = flex(*given), masked(*given)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(gather(*given), expected, rtol=0, atol=1e-5)
    assert not flex(q, k, v, uneven(tokens, prefix).to(device), prefix, 0.0)[0, 0, prefix + 5].any()


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", on_cuda])
def test_whole_tiles_in_half_precision(device):
    """As a map of entries, and told of the tiles alone."""
    tiles = chosen(2, 2, 3, 0, 1).to(device)
    q, k, v = (x.to(device) for x in drawn(2, 2, 300, 32, torch.bfloat16))
    rows = spread(tiles, 300, TILE, 1)
    expected = masked(q, k, v, rows, 1, 0.0)
    for found in (flex(q, k, v, rows, 1, 0.0), attention_flex.flex_tiles(q, k, v, tiles, 1)):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize("tokens", [128, 130, 300])
def test_the_tiles_told_are_those_of_the_map(tokens, prefix):
    count = -(-tokens // TILE)
    for whole in (False, True):
        tiles = chosen(1, 2, count, 0, 1)
        rows = spread(tiles, tokens, TILE, prefix) if whole else uneven(tokens, prefix)
        blocks = (
            attention_flex.tiled_mask(tiles, tokens, prefix)
            if whole
            else attention_flex.block_mask(rows, prefix)
        )
        told = counted(blocks, count)
        assert told.max() == 1  # a tile is full or asked, never both
        assert float(told.mean()) == pytest.approx(tile_density(with_prefix(rows, prefix)))
        assert tokens < 300 or int(blocks.full_kv_num_blocks.sum()) >= 1


def counted(blocks, count):
    """(1, 2, t, t) How often each tile is told."""
    told = torch.zeros(1, 2, count, count)
    for numbers, order in (
        (blocks.kv_num_blocks, blocks.kv_indices),
        (blocks.full_kv_num_blocks, blocks.full_kv_indices),
    ):
        for h in range(2):
            for i in range(count):
                told[0, h, i, order[0, h, i, : numbers[0, h, i]].long()] += 1
    return told


def test_where_torch_would_not_compile_it_fails_instead_of_computing_densely():
    """What TORCH_COMPILE_DISABLE=1 sets."""
    attention_flex._compiled.cache_clear()
    with torch._dynamo.config.patch(disable=True), pytest.raises(StageError, match="unset TORCH_"):
        flex(*drawn(1, 1, 9, 16), chosen(1, 1, 9, 0, 2), 0, 0.0)
    attention_flex._compiled.cache_clear()


def test_a_stance_that_runs_eagerly_fails_too():
    q, k, v = drawn(1, 1, 9, 16)
    with torch.compiler.set_stance("force_eager"), pytest.raises(StageError, match="dense"):
        flex(q, k, v, chosen(1, 1, 9, 0, 2), 0, 0.0)


def test_training_on_a_cpu_is_refused_and_what_trains_is_said():
    q, k, v = (x.requires_grad_() for x in drawn(1, 1, 9, 16))
    with pytest.raises(StageError, match=r"kernel=flex.*no gradients on a CPU.*kernel=masked"):
        flex(q, k, v, chosen(1, 1, 9, 0, 2), 0, 0.0)


def test_without_a_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(attention_flex, "no_compiler", lambda kind: "there is no C++ compiler; x")
    with pytest.raises(StageError, match=r"kernel=flex: there is no C\+\+ compiler.*kernel=masked"):
        flex(*drawn(1, 1, 9, 16), chosen(1, 1, 9, 0, 2), 0, 0.0)


def test_a_dtype_that_it_does_not_compute_is_named():
    q, k, v = drawn(1, 1, 9, 16, torch.float64)
    with pytest.raises(StageError, match=r"not in float64; use kernel=masked"):
        flex(q, k, v, chosen(1, 1, 9, 0, 2), 0, 0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("path", ["gather", "flex"])
def test_on_cuda_both_train(path):
    rows = uneven(197, 1).cuda()
    results = []
    for name in ("masked", path):
        given = [x.cuda().requires_grad_() for x in drawn(1, 2, 197, 32)]
        out = ATTEND[name](*given, rows, 1, 0.0)
        out.square().sum().backward()
        results.append([out, *(x.grad for x in given)])
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-3)
