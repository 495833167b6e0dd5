"""BERT and its relatives: Hugging Face encoders with a head for a text class or a score.

Devlin et al. 2019 (arXiv:1810.04805) and the families whose blocks are laid out like BERT's or
DistilBERT's; MiniLM (Wang et al. 2020, arXiv:2002.10957) is a small BERT.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from gossamer.errors import ConfigError
from gossamer.models.layouts import ENCODERS, find_parts
from gossamer.models.parts import parts_of
from gossamer.models.source import Source, set_size
from gossamer.models.wordpiece import train_wordpiece

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from gossamer.data.info import DataInfo

# argument -> the names it has in the families' configurations
FIELDS = {
    "layers": ("num_hidden_layers", "n_layers"),
    "width": ("hidden_size", "dim"),
    "heads": ("num_attention_heads", "n_heads"),
    "neurons": ("intermediate_size", "hidden_dim"),
    "vocabulary": ("vocab_size",),
}
DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "classifier_dropout",
    "seq_classif_dropout",
)


class Bert:
    """An encoder for sequence classification, or (one output) for regression.

    Args:
        source: hub id, local folder, or (with `package`) a folder inside that package. None: BERT's
            own configuration, BERT-base but for the sizes below; only with weights=init.
        weights: "pretrained" reads the checkpoint (safetensors only); "init" draws everything.
        package: import name of an installed package that carries the model folder.
        revision: branch, tag or commit of a hub id.
        vocabulary: size of a WordPiece vocabulary to train on the training split; None: as source.
        layers, width, heads, neurons: sizes of a randomly drawn model (neurons: width of the
            feed-forward layer); None: the source's.
        dropout: of activations and attention, everywhere; None: the source's.
        trust_remote_code: let the hub repository run its own code here.
    """

    accepts = frozenset({"text"})

    def __init__(
        self,
        source: str | None = "bert-base-uncased",
        weights: Literal["pretrained", "init"] = "pretrained",
        package: str | None = None,
        revision: str | None = None,
        vocabulary: int | None = None,
        layers: int | None = None,
        width: int | None = None,
        heads: int | None = None,
        neurons: int | None = None,
        dropout: float | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        sizes = {
            "layers": layers,
            "width": width,
            "heads": heads,
            "neurons": neurons,
            "vocabulary": vocabulary,
        }
        self.sizes = {key: value for key, value in sizes.items() if value is not None}
        self.source = Source(source, weights, package, revision, trust_remote_code)
        problems = self.source.problems(self.sizes)
        if dropout is not None and not 0 <= dropout < 1:
            problems.append(f"model.dropout={dropout}: at least 0 and below 1")
        if problems:
            raise ConfigError(*problems)
        self.vocabulary, self.dropout = vocabulary, dropout

    @property
    def start(self) -> Literal["init", "pretrained"]:
        """Which weights `build` starts from."""
        return self.source.weights

    def fingerprint(self) -> str:
        """Identity of the starting weights; see `Source.fingerprint`."""
        return self.source.fingerprint()

    def tokenizer(self, texts: Iterable[str] | None) -> PreTrainedTokenizerBase:
        """The source's tokenizer, or with `vocabulary` one trained on `texts` (the training split).

        Raises:
            ConfigError: neither a source nor a vocabulary size, or a source without tokenizer.
        """
        if self.vocabulary is not None:
            if texts is None:
                raise ConfigError(
                    f"model.vocabulary={self.vocabulary}: is trained on the training split, which "
                    f"was not given"
                )
            return train_wordpiece(texts, self.vocabulary)
        return self.source.tokenizer()

    def build(self, info: DataInfo, *, meta: bool = False) -> nn.Module:
        """The model, in training mode, in float32, with `.parts`.

        Everything that is drawn (the head of a pretrained model too) comes from the global torch
        generator: build inside `gossamer.seeds.drawing(seed, "init")`.

        Args:
            meta: from the configuration alone, on the meta device: no weight is read or allocated.

        Raises:
            ConfigError: an unreachable source, an unknown layout, or a checkpoint that lacks
                weights of the encoder.
        """
        from transformers import AutoModelForSequenceClassification as Auto

        model, report = self.source.model(Auto, self._config(info), meta=meta, dtype=torch.float32)
        base = cast(str, model.base_model_prefix)
        model.parts = find_parts(model, base, str(self.source.name), ENCODERS)  # type: ignore[assignment]
        if report is not None:
            # only the head (and the pooler that feeds it) may be missing from a checkpoint
            self.source.check_loaded(report, model, (*parts_of(model).head, f"{base}.pooler"))
        return model.train()

    def requirements(self, model: nn.Module, data: Any) -> list[str]:
        """Problems, one line each, of this model with this data."""
        path = f"{model.base_model_prefix}.embeddings.position_embeddings"
        positions = cast(nn.Embedding, model.get_submodule(path))
        # RoBERTa counts positions from padding_idx + 1
        most = positions.num_embeddings - (
            0 if positions.padding_idx is None else positions.padding_idx + 1
        )
        if data.info.max_length > most:
            return [f"dataset.max_length={data.info.max_length}: the model has {most} positions"]
        return []

    def _config(self, info: DataInfo | None) -> PreTrainedConfig:
        from transformers import BertConfig

        config = self.source.config(BertConfig)
        for key, value in self.sizes.items():
            set_size(config, FIELDS[key], value, f"model.{key}")
        if self.dropout is not None:
            set_size(config, DROPOUTS, self.dropout, "model.dropout")
        heads, width = config.num_attention_heads, config.hidden_size
        if width % heads:
            raise ConfigError(f"model.heads={heads}: must divide the width, which is {width}")
        if info is not None:
            classes = info.classes or ("score",)
            config.id2label = dict(enumerate(classes))
            config.label2id = {label: index for index, label in enumerate(classes)}
            config.problem_type = "single_label_classification" if info.classes else "regression"
        return config
