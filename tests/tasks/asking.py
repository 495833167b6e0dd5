"""A small LLaMA with its tokenizer, parquet folders of questions, and their scores by hand."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [
    *("the", "a", "river", "stone", "under", "over", "quick", "brown", "fox", "jumps", "sleeps"),
    *("barks", "loudly", "never", "always", "green", "small", "large", "house", "window"),
    *("opens", "closes", "because", "therefore", "question", "answer", "yes", "no", "light"),
]
Rows = list[dict[str, Any]]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, which puts <s> in front as LLaMA's does."""
    draw = Random(0)
    told = Tokenizer(models.BPE())
    told.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    told.train_from_iterator((sentence(draw, 9) for _ in range(300)), trainer)
    told.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=told, bos_token="<s>", eos_token="</s>")


def llama(positions: int = 256, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=positions,
        initializer_range=0.3,  # a spread of scores that rounding cannot reorder
        **changes,
    )
    return LlamaForCausalLM(config)


@torch.no_grad()
def constant(wanted: str) -> LlamaForCausalLM:
    """A model that gives tokens with `wanted` in them a high logit, all others 0, everywhere."""
    model = llama()
    for parameter in model.model.layers.parameters():
        parameter.zero_()
    model.model.embed_tokens.weight.fill_(1.0)
    for index in range(model.lm_head.out_features):
        liked = wanted != "" and wanted in tokenizer().convert_ids_to_tokens(index)
        model.lm_head.weight[index] = 0.2 if liked else 0.0
    return model


def sentence(draw: Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def questions(count: int, choices: int = 4, words: int = 6) -> Rows:
    draw = Random(count)
    return [
        {
            "context": sentence(draw, words),
            "choices": [sentence(draw, draw.randint(1, 3)) for _ in range(choices)],
            "label": draw.randrange(choices),
        }
        for _ in range(count)
    ]


def write(folder: Path, name: str, split: str, rows: Rows) -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), folder / name / f"{split}.parquet")
    return folder


@torch.no_grad()
def score(model: LlamaForCausalLM, text: str, continuation: str) -> tuple[float, bool]:
    """(log p(continuation | text), is it what greedy decoding gives): alone, without padding."""
    ids = tokenizer()(text + continuation, return_tensors="pt").input_ids
    first = len(tokenizer()(text).input_ids)
    scores = model(ids).logits[0, first - 1 : -1].double().log_softmax(-1)
    wanted = ids[0, first:]
    likely = bool((scores.argmax(-1) == wanted).all())
    return float(scores.gather(-1, wanted[:, None]).sum()), likely


def accuracy(
    model: LlamaForCausalLM, pairs: Iterator[Sequence[tuple[str, str]]], labels: Sequence[int]
) -> float:
    """The share of rows whose best (text, continuation) is the labelled one."""
    right = 0
    for several, label in zip(pairs, labels, strict=True):
        scores = [score(model, *pair)[0] for pair in several]
        right += scores.index(max(scores)) == label
    return right / len(labels)


def state(model: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
