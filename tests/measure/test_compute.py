"""MACs against arithmetic by hand."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from gossamer.measure.compute import compute, macs, macs_nonzero

N, D, FFN = 128, 768, 3072
LAYER = N * (12 * D * D + 2 * N * D)
HEAD_DIM = 64


def bert_base(layers=12):
    with torch.device("meta"):
        return BertForSequenceClassification(BertConfig(num_hidden_layers=layers, num_labels=2))


def tokens(rows=1, device="meta"):
    ids = torch.zeros(rows, N, dtype=torch.long, device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def cut(model, heads=0, neurons=0):
    """Slice linear layers as structured pruning does: `heads` and `neurons` leave each layer."""
    for layer in model.bert.encoder.layer:
        width = (12 - heads) * HEAD_DIM
        attention = layer.attention.self
        with torch.device("meta"):
            for name in ("query", "key", "value"):
                setattr(attention, name, nn.Linear(D, width))
            layer.attention.output.dense = nn.Linear(width, D)
            layer.intermediate.dense = nn.Linear(D, FFN - neurons)
            layer.output.dense = nn.Linear(FFN - neurons, D)
        attention.num_attention_heads, attention.all_head_size = 12 - heads, width
    return model


def test_bert_base_takes_12dd_2nd_per_token_and_layer_on_the_meta_device():
    counted = macs(bert_base(), tokens())
    assert counted.modules["bert.encoder.layer.3"] == LAYER
    assert counted.modules["bert.encoder"] == 12 * LAYER
    assert counted.total == 12 * LAYER + D * D + 2 * D  # pooler and classifier see one token
    assert counted.modules["bert.encoder.layer.0.attention.self"] == N * (3 * D * D + 2 * N * D)
    assert counted.modules["bert.encoder.layer.0.output.dense"] == N * FFN * D


@pytest.mark.parametrize(
    ("heads", "neurons", "percent"),
    [(3, 0, 8.8), (3, FFN // 4, 25.0), (4, int(0.4 * FFN), 37.6)],
)
def test_the_three_structured_settings_of_dsee_save_what_its_arithmetic_says(
    heads, neurons, percent
):
    dense = macs(bert_base(2), tokens()).modules["bert.encoder"]
    left = macs(cut(bert_base(2), heads, neurons), tokens()).modules["bert.encoder"]
    by_hand = heads * (4 * D * D + 2 * N * D) // 12 + 2 * D * neurons
    assert dense - left == 2 * N * by_hand
    assert round(100 * (dense - left) / dense, 1) == percent


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_fused_attention_is_counted_like_plain_products(device):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, device=device))

        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q * self.scale, k, v)

    q, kv = torch.ones(2, 4, 8, 16), torch.ones(2, 4, 10, 16)  # (B, heads, tokens, head_dim)
    model = Attention()
    assert macs(model, {"q": q, "k": kv, "v": kv}).total == 2 * (2 * 4 * 8 * 10 * 16)


def test_the_fused_encoder_layer_of_torch_is_opened():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    counted = macs(layer, {"src": torch.ones(1, 5, 16)})
    assert counted.total == 5 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 5 * 5 * 16
    assert torch.backends.mha.get_fastpath_enabled()


def test_products_with_a_vector_and_convolutions_count():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.conv = nn.Linear(6, 3), nn.Conv2d(4, 8, 3, padding=1, groups=2)

        def forward(self, x, image):
            return self.line(x), self.conv(image)

    given = {"x": torch.ones(6), "image": torch.ones(1, 4, 5, 5)}
    assert macs(Both(), given).total == 18 + 25 * 8 * 2 * 9


def test_a_question_other_than_yes_or_no_is_not_answered_on_meta():
    class Counts(nn.Linear):
        def forward(self, x):
            return super().forward(x) * int(x.sum())

    with pytest.raises(RuntimeError, match="meta"):
        macs(Counts(2, 2, device="meta"), {"x": torch.ones(1, 2)})


def test_counting_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model[1].eval()
    macs(model, {"input": torch.ones(1, 2)})
    assert model.training and not model[1].training
    assert all(p.grad is None for p in model.parameters())


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.conv = nn.Linear(4, 6), nn.Conv1d(6, 2, 1, bias=False)
        self.experts = nn.Parameter(torch.ones(3, 2, 5))

    def forward(self, x):  # (B, 4)
        h = self.conv(self.up(x)[..., None])[..., 0]  # (B, 2)
        return torch.bmm(h.expand(3, *h.shape), self.experts) @ torch.ones(5, 2)


def test_macs_with_a_nonzero_weight_count_each_weight_where_it_is_used():
    model, x = Mixed(), {"x": torch.ones(7, 4)}
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    everything = 7 * (4 * 6 + 6 * 2 + 3 * 2 * 5 + 3 * 5 * 2)
    assert macs_nonzero(model, x) == macs(model, x).total == everything
    model.up.weight.data[0] = 0  # 4 of 24
    model.up.bias.data.zero_()  # an addition, no product
    model.conv.weight.data[1] = 0  # 6 of 12
    model.experts.data[2] = 0  # 10 of 30
    assert macs_nonzero(model, x) == everything - 7 * (4 + 6 + 10)
    assert macs(model, x).total == everything


def test_nonzero_macs_need_values():
    with pytest.raises(ValueError, match="meta"):
        macs_nonzero(nn.Linear(2, 2, device="meta"), {"input": torch.ones(1, 2)})


def test_the_ledger_is_per_sample_and_keeps_theory_and_execution_apart():
    dense, model = nn.Linear(4, 4), nn.Linear(4, 3)
    model.weight.data[0] = 0
    ledger = compute(dense, model, {"input": torch.ones(5, 4)}, "five")
    assert (ledger["macs_dense"], ledger["macs_effective"], ledger["macs_nonzero"]) == (16, 12, 8)
    assert ledger["modelled"] is None and ledger["workload"] == "five"
    assert torch.__version__ in ledger["counted_by"]
