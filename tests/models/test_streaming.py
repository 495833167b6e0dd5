"""A streamed model computes what the whole one does, holds one block at a time, and is left as it
was."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from gossamer.errors import DataError, StageError
from gossamer.models import streaming
from gossamer.models.parts import Parts
from tests.models import vision
from tests.models.decoders import llama, windows
from tests.models.encoders import CONFIGS, batch, built, randomised, saved


def bert(tmp_path, family: str = "bert") -> nn.Module:
    return randomised(built(saved(tmp_path / family, family)))


def padded() -> list[dict[str, torch.Tensor]]:
    """Two batches; the rows of the first are of three lengths."""
    first = batch(rows=3)
    first["attention_mask"] = (torch.arange(16) < torch.tensor([[16], [9], [4]])).long()
    return [
        {**first, "labels": torch.zeros(3)},
        {**batch(rows=2, width=7), "labels": torch.ones(2)},
    ]


@pytest.mark.parametrize("family", CONFIGS)
def test_an_encoder_gives_the_same_logits_streamed(tmp_path, family):
    model = bert(tmp_path, family)
    streamed = [output.logits for output in streaming.outputs(model, padded(), "cpu")]
    for inputs, logits in zip(padded(), streamed, strict=True):
        del inputs["labels"]
        with torch.no_grad():
            torch.testing.assert_close(logits, model(**inputs).logits, rtol=1e-6, atol=1e-6)


def test_a_decoder_gives_the_same_logits_streamed():
    model = llama()
    streamed = [output.logits for output in streaming.outputs(model, windows(), "cpu")]
    for inputs, logits in zip(windows(), streamed, strict=True):
        with torch.no_grad():
            whole = model(input_ids=inputs["input_ids"], use_cache=False).logits
        torch.testing.assert_close(logits, whole, rtol=1e-6, atol=1e-6)


def mixed(rows: int) -> list[dict[str, torch.Tensor]]:
    """Pictures as they are trained on, with mixed-up answers."""
    answers = {"labels": torch.zeros(rows).long(), "targets": torch.full((rows, 3), 1 / 3)}
    return [{"x": vision.pictures(rows), **answers}, {"x": vision.pictures(2), **answers}]


@pytest.mark.parametrize("family", vision.FAMILIES)
def test_a_vision_transformer_gives_the_same_logits_streamed(family):
    """A Swin too, whose states change their shape between two stages."""
    model = vision.randomised(vision.built(vision.FAMILIES[family]))
    streamed = list(streaming.outputs(model, mixed(3), "cpu"))
    for inputs, logits in zip(mixed(3), streamed, strict=True):
        with torch.no_grad():
            assert torch.equal(logits, model(x=inputs["x"]))
    apart = {"deit": set(), "swin": {2}}[family]  # two blocks in the first stage
    assert {*streaming.enter(model, mixed(3), None, "cpu")[0].apart} == apart


def test_a_pruned_stage_feeds_the_next_one():
    """What reaches a Swin's second stage is what the changed blocks of the first made."""
    model = vision.randomised(vision.built(vision.SWIN))
    fed = []
    passages = streaming.enter(model, mixed(3), None, "cpu")
    for path, run in streaming.blocks(model, passages, "cpu"):
        if path == "layers.0.blocks.1":
            with torch.no_grad():
                model.get_submodule(path).mlp.fc2.weight.zero_()
        if path == "layers.1.blocks.0":
            run(lambda passage: fed.append(passage.states))
    seen = []
    hook = lambda module, args: seen.append(args[0])  # noqa: E731
    model.get_submodule("layers.1.blocks.0").register_forward_pre_hook(hook)
    for inputs in mixed(3):
        with torch.no_grad():
            model(x=inputs["x"])
    assert len(fed) == len(seen) == 2 and all(map(torch.equal, fed, seen))


def test_only_the_asked_rows_are_taken_and_the_last_batch_is_cut():
    passages = streaming.enter(llama(), windows(10, size=4), 6, "cpu")
    assert [len(passage.states) for passage in passages] == [4, 2]
    assert [len(passage.inputs["input_ids"]) for passage in passages] == [4, 2]
    assert all("labels" not in passage.inputs for passage in passages)
    assert len(streaming.enter(llama(), windows(8, size=4), 8, "cpu")) == 2


def test_too_few_rows_say_how_many_there_are():
    with pytest.raises(DataError, match=r"samples=11: .* has 10 rows; type samples=10"):
        streaming.enter(llama(), windows(10), 11, "cpu")


def test_no_cache_is_kept_or_passed_on():
    model = llama()
    model.config.use_cache = True
    passages = streaming.enter(model, windows(), 4, "cpu")
    for _, kwargs in passages[0].arguments:
        assert kwargs["past_key_values"] is None and not kwargs["use_cache"]


def test_arguments_that_blocks_share_are_kept_once():
    (passage,) = streaming.enter(llama(), windows(), 4, "cpu")
    cosines = {id(kwargs["position_embeddings"][0]) for _, kwargs in passage.arguments}
    assert len(passage.arguments) == 3 and len(cosines) == 1


def test_a_block_is_run_for_hooks_without_moving_its_states_and_again_after_it_changed():
    model = llama()
    passages = streaming.enter(model, windows(), 10, "cpu")
    fed = {}
    for path, run in streaming.blocks(model, passages, "cpu"):
        block = model.get_submodule(path)
        before = [passage.states.clone() for passage in passages]
        seen: list[streaming.Passage] = []
        run(seen.append)
        assert seen == passages
        assert all(torch.equal(old, p.states) for old, p in zip(before, passages, strict=True))
        with torch.no_grad():
            block.mlp.down_proj.weight.zero_()
        fed[path] = before
    with torch.no_grad():  # the model has its changed blocks: what it hands from block to block …
        hidden = model(**{"input_ids": windows()[0]["input_ids"]}, output_hidden_states=True)
    for states, old in zip(hidden.hidden_states, fed.values(), strict=False):
        torch.testing.assert_close(states, old[0])  # … is what the stream fed to each


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


def hooks(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


@pytest.mark.parametrize("how", ["to the end", "left early", "with an error"])
def test_the_model_is_left_as_it_was(how):
    model = llama().train()
    model.model.layers[1].eval()
    own = model.model.layers[2].forward = model.model.layers[2].forward  # somebody's wrapper
    before = modes(model), hooks(model), {n: t.clone() for n, t in model.state_dict().items()}
    named = {name: id(tensor) for name, tensor in model.named_parameters()}
    if how == "with an error":
        with pytest.raises(IndexError):
            list(streaming.outputs(model, [{"input_ids": torch.tensor([[99]])}], "cpu"))
    else:
        for index, _ in enumerate(streaming.outputs(model, windows(), "cpu")):
            assert modes(model) == before[0]  # between two batches, too
            if how == "left early" and index == 1:
                break
    assert (modes(model), hooks(model)) == before[:2] and torch.is_grad_enabled()
    assert vars(model.model.layers[2])["forward"] is own
    assert "forward" not in vars(model.model.layers[0])
    assert {name: id(tensor) for name, tensor in model.named_parameters()} == named
    assert all(torch.equal(tensor, before[2][n]) for n, tensor in model.state_dict().items())


def test_one_block_at_a_time_is_on_the_device(monkeypatch):
    """…and nothing else of the model while it is; the rest is there before and after."""
    model, real = llama(), streaming.on_device
    sizes = {sum(p.numel() for p in block.parameters()) for block in model.model.layers}
    (of_a_block,) = sizes
    rest = sum(p.numel() for p in model.parameters()) - 3 * of_a_block
    there, most = [], []

    @contextmanager
    def counting(tensors, device):
        floating = [t for t in tensors() if isinstance(t, nn.Parameter)]
        there.append(sum(t.numel() for t in floating))
        most.append(tuple(there))
        with real(tensors, device):
            yield
        there.pop()

    monkeypatch.setattr(streaming, "on_device", counting)
    list(streaming.outputs(model, windows(), "cpu"))
    assert most == [(rest,), (rest, of_a_block), *[(of_a_block,)] * 3, (rest,)]


class Placed:
    """Stands for a tensor: there is one kind of device here."""

    def __init__(self, device: str) -> None:
        self.device = device

    @property
    def data(self):
        return self

    @data.setter
    def data(self, other) -> None:
        self.device = other.device

    def to(self, device: str):
        return Placed(device)


def test_tensors_go_to_the_device_and_back_to_where_each_was_and_so_does_what_was_added():
    tensors = [Placed("home"), Placed("elsewhere")]
    with streaming.on_device(lambda: tensors, "device"):
        assert [tensor.device for tensor in tensors] == ["device", "device"]
        tensors.append(Placed("device"))  # a mask, say
    assert [tensor.device for tensor in tensors] == ["home", "elsewhere", "home"]
    with pytest.raises(KeyError), streaming.on_device(lambda: tensors, "device"):
        raise KeyError
    assert [tensor.device for tensor in tensors] == ["home", "elsewhere", "home"]


class Pair(nn.Module):
    """A model whose blocks return tuples, and one that is no stack of like blocks."""

    def __init__(self, widths=(4, 4), calls: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Packed(width) for width in widths)
        self.calls = calls
        names = tuple(f"blocks.{index}" for index in range(len(widths)))
        self.parts = Parts(names, (), {}, (), (), ())

    def forward(self, x):
        for block in self.blocks[: self.calls]:
            x = block(hidden_states=x, scale=2.0)[0]
        return x.sum(-1)


class Packed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4, width)

    def forward(self, hidden_states, scale):
        return self.linear(hidden_states) * scale, "attention"


def test_blocks_that_return_a_tuple_and_are_called_by_keyword_are_streamed_too():
    model, x = Pair(), torch.randn(3, 5, 4)
    (output,) = streaming.outputs(model, [{"x": x}], "cpu")
    torch.testing.assert_close(output, model(x).detach())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Pair(widths=(4, 6)), r"block 1 makes hidden states \(3, 5, 6\) of \(3, 5, 4\)"),
        (Pair(calls=1), "2 blocks were named, 1 were called"),
        (Pair(calls=0), "does not call its first block"),
    ],
    ids=["another width", "a block left out", "no block"],
)
def test_what_cannot_be_streamed_is_an_error_that_says_why(model, words):
    with pytest.raises(StageError, match=words):
        list(streaming.outputs(model, [{"x": torch.randn(3, 5, 4)}], "cpu"))
