"""Sizes and operations by the formats' rules, against the arithmetic of GPUSQ-ViT."""

import pytest
import timm
import torch
from torch import nn

from gossamer.contract import Fact
from gossamer.measure import formats
from gossamer.measure.compute import compute, macs
from gossamer.measure.formats import bit_operations, storage_bytes, weight_bits

INT8, INT4 = ("2:4", 8), ("pairwise:4:8", 4)


@pytest.mark.parametrize(
    ("pattern", "bits", "ratio"),
    [
        ("2:4", 8, 6.40),
        ("pairwise:4:8", 4, 12.80),
        ("2:4", 16, 3.556),
        ("dense", 8, 4),
        ("1:4", 8, 12.8),
    ],
)
def test_a_pure_layer_is_smaller_than_fp32_by_its_format(pattern, bits, ratio):
    assert round(32 / weight_bits(pattern, bits), 3) == ratio


def test_a_models_bytes_are_hand_computed():
    facts = [
        Fact("up", (8, 16), "2:4", operands=(8, 8)),  # 128 weights of 5 bits
        Fact("patch", (4, 2, 2, 2), "pairwise:4:8", operands=(4, 4)),  # 32 of 2.5
        Fact("head", (3, 8), operands=(8, 8)),  # 24 of 8
        Fact("float", (4, 8), "2:4"),  # 32 of (2 * 32 + 4) / 4
        Fact("left", (8, 8), "2:4", operands=(8, 8), skipped="no multiple of 4"),
        Fact("dense", (8, 8), "unstructured"),
    ]
    rest = 64 + 64 + 20  # and what no fact names
    bits = 128 * 5 + 32 * 2.5 + 24 * 8 + 32 * 17 + 32 * rest
    assert storage_bytes(128 + 32 + 24 + 32 + rest, facts) == bits / 8
    assert formats.dense_bytes(364, facts) == 4 * 364
    assert storage_bytes(364, facts[4:]) is None and formats.dense_bytes(364, facts[4:]) is None


TABLE = {  # times smaller in INT8 and INT4: all block linears, the patch embedding and the patch
    # merging in the pattern, the head dense, the rest FP32
    "deit_tiny_patch16_224": (5.89, 11.00),
    "deit_small_patch16_224": (6.13, 11.80),
    "deit_base_patch16_224": (6.26, 12.27),
    "swin_tiny_patch4_window7_224": (6.19, 12.15),
    "swin_small_patch4_window7_224": (6.22, 12.18),
    "swin_base_patch4_window7_224": (6.27, 12.33),
}


@pytest.fixture(scope="module", params=TABLE)
def transformer(request):
    with torch.device("meta"):
        return request.param, timm.create_model(request.param).eval()


def facts_of(model, pattern, bits):
    return [
        Fact(
            path,
            tuple(layer.weight.shape),
            "dense" if path.startswith("head") else pattern,
            operands=(bits, bits),
        )
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]


def test_whole_models_are_as_much_smaller_as_the_papers_rule_makes_them(transformer):
    name, model = transformer
    count = sum(parameter.numel() for parameter in model.parameters())
    ratios = []
    for pattern, bits in (INT8, INT4):
        facts = facts_of(model, pattern, bits)
        ratios.append(formats.dense_bytes(count, facts) / storage_bytes(count, facts))
    assert tuple(round(ratio, 2) for ratio in ratios) == TABLE[name]


def test_attention_products_and_the_rest_count_in_full():
    """DeiT-T: 14 % of the MACs have no weight, so a strict count is far from 2 * 4 * 4 = 32."""
    with torch.device("meta"):
        model = timm.create_model("deit_tiny_patch16_224")
    counted = macs(model, {"x": torch.empty(1, 3, 224, 224)})
    facts = facts_of(model, *INT8)
    done = bit_operations(counted.total, counted.modules, facts)
    products = {fact.name: counted.modules[fact.name] for fact in facts}
    attention = 12 * 2 * 197 * 197 * 192
    assert counted.total == sum(products.values()) + attention
    head = products.pop("head")
    assert done == 32 * sum(products.values()) + 64 * head + 1024 * attention
    assert 5 < formats.dense_bit_operations(counted.total, facts) / done < 6


def test_the_patterns_share_counts_not_the_zeros_that_rounding_made():
    facts = [Fact("a", (4, 8), "2:4", 0.5, 0.3, operands=(4, 4)), Fact("b", (4, 8), "2:4")]
    assert bit_operations(1000, {"a": 100, "b": 200}, facts) == 100 * 8 + 200 * 512 + 700 * 1024
    assert bit_operations(1000, {"a": 100}, [Fact("a", (4, 8), "unstructured")]) is None


def test_the_record_has_both_per_sample():
    dense, x = nn.Linear(8, 4), {"input": torch.ones(5, 8)}
    ledger = compute(dense, nn.Linear(8, 4), x, "five", [Fact("", (4, 8), "2:4", operands=(8, 8))])
    assert ledger["bit_operations_dense"] == 32 * 1024
    ledger = compute(dense, nn.Linear(8, 4), x, "five")
    assert ledger["bit_operations"] is None and ledger["bit_operations_dense"] is None
