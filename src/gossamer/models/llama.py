"""LLaMA and its relatives: Hugging Face causal language models with gated feed-forward blocks.

Touvron et al. 2023 (arXiv:2302.13971, 2307.09288) and the families whose blocks are laid out like
LLaMA's: Mistral, Qwen 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from gossamer.errors import ConfigError
from gossamer.models.bytelevel import END_ID, train_bpe
from gossamer.models.layouts import DECODERS, find_parts
from gossamer.models.source import Source, set_size

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from gossamer.data.info import DataInfo

FIELDS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "neurons": "intermediate_size",
    "vocabulary": "vocab_size",
}


class Llama:
    """A causal language model.

    Args:
        source, weights, package, revision, trust_remote_code: as in `models.bert.Bert`.
        vocabulary: size of a byte-level BPE vocabulary to train on the training split; None: as
            source.
        layers, width, heads, kv_heads, neurons: sizes of a randomly drawn model (kv_heads: keys
            and values, shared by groups of heads; None: as many as heads); None: the source's.
        tied: one matrix for embeddings and head; None: as source.
        dtype: of the weights. Training in bfloat16 needs float32 masters: keep float32 here and
            set trainer.precision=bf16-mixed; bfloat16 weights are for one-shot methods.
        gradient_checkpointing: compute each block twice in training rather than keep what is in it.
        stream: keep the model on the CPU and one block at a time on the accelerator, for one-shot
            methods and evaluation of models that do not fit there. Cannot be trained.
    """

    accepts = frozenset({"language"})

    def __init__(
        self,
        source: str | None = "meta-llama/Llama-2-7b-hf",
        weights: Literal["pretrained", "init"] = "pretrained",
        package: str | None = None,
        revision: str | None = None,
        vocabulary: int | None = None,
        layers: int | None = None,
        width: int | None = None,
        heads: int | None = None,
        kv_heads: int | None = None,
        neurons: int | None = None,
        tied: bool | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        gradient_checkpointing: bool = False,
        stream: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        sizes = {
            "layers": layers,
            "width": width,
            "heads": heads,
            "kv_heads": kv_heads,
            "neurons": neurons,
            "vocabulary": vocabulary,
        }
        self.sizes = {key: value for key, value in sizes.items() if value is not None}
        self.source = Source(source, weights, package, revision, trust_remote_code)
        problems = self.source.problems(self.sizes)
        if kv_heads and heads and heads % kv_heads:
            problems.append(f"model.kv_heads={kv_heads}: must divide model.heads={heads}")
        if tied is not None and weights == "pretrained":
            problems.append(f"model.tied={tied}: a pretrained model has its own; leave it null")
        if dtype not in ("float32", "bfloat16"):
            problems.append(f"model.dtype={dtype}: float32 or bfloat16")
        if problems:
            raise ConfigError(*problems)
        self.vocabulary, self.tied, self.stream = vocabulary, tied, stream
        self.dtype = getattr(torch, dtype)
        self.gradient_checkpointing = gradient_checkpointing

    @property
    def start(self) -> Literal["init", "pretrained"]:
        """Which weights `build` starts from."""
        return self.source.weights

    def fingerprint(self) -> str:
        """Identity of the starting weights; see `Source.fingerprint`."""
        return self.source.fingerprint()

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """The source's tokenizer, or with `vocabulary` one trained on `texts` (the training split).

        Raises ConfigError for neither a source nor a vocabulary size."""
        if self.vocabulary is not None:
            return train_bpe(texts, self.vocabulary)
        return self.source.tokenizer()

    def build(self, info: DataInfo, *, meta: bool = False) -> nn.Module:
        """The model, in training mode, with `.parts` and `.stream`.

        What is drawn comes from the global torch generator: build inside
        `gossamer.seeds.drawing(seed, "init")`. With `meta`, on the meta device: no weight is read
        or allocated. Raises ConfigError for an unreachable source, an unknown layout, or a
        checkpoint that lacks weights."""
        from transformers import AutoModelForCausalLM as Auto

        config = self._config(info)
        model, report = self.source.model(Auto, config, meta=meta, dtype=self.dtype)
        base = cast(str, model.base_model_prefix)
        parts = find_parts(model, base, str(self.source.name), DECODERS)
        model.parts = parts  # type: ignore[assignment]
        model.stream = self.stream  # type: ignore[assignment]
        if report is not None:
            self.source.check_loaded(report, model, ())
        if self.gradient_checkpointing:
            cast(Any, model).gradient_checkpointing_enable({"use_reentrant": False})
        return model.train()

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        """Problems, one line each, of this model with this data."""
        most = cast(Any, model).config.max_position_embeddings
        if data.info.max_length > most:
            return [f"dataset.context={data.info.max_length}: the model was made for {most} tokens"]
        return []

    def _config(self, info: DataInfo) -> PreTrainedConfig:
        from transformers import LlamaConfig

        config = self.source.config(LlamaConfig)
        sizes = {"kv_heads": self.sizes["heads"]} if "heads" in self.sizes else {}
        for key, value in (sizes | self.sizes).items():
            set_size(config, (FIELDS[key],), value, f"model.{key}")
        heads, width = config.num_attention_heads, config.hidden_size
        if width % heads:
            raise ConfigError(f"model.heads={heads}: must divide the width, which is {width}")
        if self.source.weights == "init":
            config.head_dim = width // heads
            config.max_position_embeddings = max(config.max_position_embeddings, info.max_length)
        if self.vocabulary is not None:
            config.bos_token_id = config.eos_token_id = config.pad_token_id = END_ID
        if self.tied is not None:
            config.tie_word_embeddings = self.tied
        return config
