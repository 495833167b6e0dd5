"""Attention's products in the compute ledger, and nowhere else."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from gossamer import proof
from gossamer.contract import Fact, Method
from gossamer.execution import _zeros
from gossamer.measure.attention import attention
from gossamer.measure.compute import compute, macs
from gossamer.measure.size import size
from gossamer.records.schema import saved
from gossamer.sparsity import attention_macs

TOKENS, WIDTH, HEADS, DEPTH = 197, 384, 6, 12  # of a DeiT-S at 224 pixels
MAP = Fact("attn", (2, 4, 4), "top keys", 0.5, 0.5, macs=60, dense_macs=100, block_density=1.0)


@pytest.fixture(scope="module")
def deit() -> dict[str, int]:
    """MACs of a DeiT-S: of all of it, and of its blocks."""
    with torch.device("meta"):
        model = timm.create_model("deit_small_patch16_224")
    counted = macs(model, {"x": torch.ones(1, 3, 224, 224)})
    return {"all": counted.total, "blocks": counted.modules["blocks"]}


@pytest.mark.parametrize(
    ("budget", "rho", "of_attention", "of_blocks", "of_model"),
    [(50, 0.30, 0.480, 0.038, 0.037), (10, 0.17, 0.690, 0.054, 0.054)],
)
def test_a_deit_saves_what_the_notes_say(
    deit, budget, rho, of_attention, of_blocks, of_model
) -> None:
    cost = attention_macs.predictor(
        TOKENS, WIDTH, HEADS, channels=32, basis=32, kept=8, density=rho
    ) + attention_macs.budgeted(TOKENS, WIDTH, budget, 1)
    fact = replace(
        MAP,
        shape=(HEADS, TOKENS, TOKENS),
        macs=cost,
        dense_macs=attention_macs.dense(TOKENS, WIDTH),
    )
    found = attention([replace(fact, name=f"blocks.{n}.attn") for n in range(DEPTH)])
    assert found["attention_macs_dense"] / 1e6 == pytest.approx(357.7, abs=0.05)
    shares = saved({**found, "macs_dense": deit["all"]})
    assert shares["attention_saved"] == pytest.approx(of_attention, abs=5e-4)
    assert shares["attention_saved_of_model"] == pytest.approx(of_model, abs=5e-4)
    shares = saved({**found, "macs_dense": deit["blocks"]})  # as the notes count
    assert shares["attention_saved_of_model"] == pytest.approx(of_blocks, abs=5e-4)


def test_densities_are_weighted_by_the_size_of_each_map() -> None:
    small = replace(MAP, name="a", shape=(2, 2, 2), density=1.0, block_density=0.5)
    found = attention([MAP, small, Fact("fc", (9, 9), density=0.1, macs=7)])
    assert (found["attention_macs"], found["attention_macs_dense"]) == (120, 200)
    assert found["attention_density"] == (0.5 * 32 + 1.0 * 8) / 40
    assert found["attention_block_density"] == (1.0 * 32 + 0.5 * 8) / 40
    found = attention([MAP, replace(small, block_density=None)])
    assert found["attention_block_density"] is None and found["attention_density"] is not None


def test_without_products_of_attention_nothing_is_told() -> None:
    assert set(attention([Fact("fc", (2, 2))]).values()) == {None}
    assert saved({"macs_dense": 10, **attention([])}) == {} == saved({"macs_dense": 10})


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.fc = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.fc(self.attn(input))


def test_a_map_named_like_a_module_changes_no_other_ledger(tmp_path) -> None:
    model, inputs = Both(), {"input": torch.ones(1, 4)}
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    weights = Fact("fc", (4, 4), "2:4", 0.5, 0.5, operands=(8, 8))

    def ledgers(*facts: Fact) -> tuple[dict, dict]:
        stored = size(
            model, model, facts, trainable=1, directory=tmp_path, dense_directory=tmp_path
        )
        return stored, compute(model, model, inputs, "batch 1", facts)

    # even one that calls itself 2:4 and integer: no weights are in it
    named = replace(MAP, pattern="2:4", operands=(8, 8))
    stored, computed = ledgers(weights)
    again, counted = ledgers(weights, named)
    assert stored == again and stored["bits_per_weight"] == 32.0
    changed = {name for name in computed if computed[name] != counted[name]}
    assert changed == {name for name in counted if name.startswith("attention_")}
    alone, counted = ledgers(named)
    assert alone["bits_per_weight"] is None and alone["format_bytes"] is None
    assert counted["bit_operations"] is None and counted["attention_macs"] == 60
    assert counted["macs_effective"] == counted["macs_dense"], "a mask executes none less"


def test_maps_are_proven_apart_from_weights() -> None:
    weights = Fact("fc", (4, 4), "unstructured", 0.5, 0.5)
    checks = proof.density_checks({"both": [weights, replace(MAP, density=0.6)]})
    assert [(check.name, check.passed) for check in checks] == [
        ("both: density 0.5 is met", True),
        ("both: map density 0.5 is met", False),
    ]


def test_the_zeros_that_are_held_are_of_weights() -> None:
    class Sparse(Method):
        produces = frozenset({"sparse weights"})

        def ledger(self, loaded: nn.Module) -> list[Fact]:
            return [Fact("fc", (4, 4), "unstructured", 0.5, 0.5), MAP]

    assert set(_zeros(Sparse(), Both())) == {"fc"}
