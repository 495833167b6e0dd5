"""A batch that is computed in parts makes the step that it makes as a whole."""

from dataclasses import replace

import pytest
import torch

from tests.contract import table
from tests.contract.table import ROWS


def weights(name: str, place, **changes) -> dict[str, torch.Tensor]:
    made = table.experiment(ROWS[name])
    made.builder.dropout = 0.0  # each part draws its own
    made.training = replace(made.training, **changes)
    model, _ = table.run(made, place / "outputs", place / "journal")
    return model.state_dict()


@pytest.mark.parametrize(
    "name", ["none", "cast", "cast on LLaMA", "ast", "dsee, structured by gates"]
)
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_parts_of_a_batch_add_up_to_its_gradient(name, parts, tmp_path):
    whole = weights(name, tmp_path / "whole")
    apart = weights(name, tmp_path / "apart", accumulate=parts)
    for key, tensor in whole.items():
        assert apart[key].shape == tensor.shape, key
        torch.testing.assert_close(apart[key], tensor, rtol=0, atol=1e-5, msg=key)
        assert torch.equal(apart[key] == 0, tensor == 0), key


def test_a_forgotten_part_would_be_noticed(tmp_path):
    """…by the test above: half of a batch makes another step."""
    made = table.experiment(ROWS["none"])
    made.data.batch_size //= 2
    made.builder.dropout = 0.0
    half, _ = table.run(made, tmp_path / "half" / "outputs", tmp_path / "half" / "journal")
    whole = weights("none", tmp_path / "whole")
    assert any(
        not torch.allclose(a, b, rtol=0, atol=1e-4)
        for a, b in zip(half.state_dict().values(), whole.values(), strict=True)
        if a.is_floating_point()
    )
