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
from gossamer.hub import hub_reachable
from gossamer.models.checkpoint import is_local, locate, reading, weights_digest
from gossamer.models.layouts import find_parts
from gossamer.models.parts import parts_of
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
        problems = [
            f"model.{key}={value}: at least 1" for key, value in self.sizes.items() if value < 1
        ]
        if weights not in ("pretrained", "init"):
            problems.append(f"model.weights={weights}: pretrained or init")
        if weights == "pretrained":
            problems += [
                f"model.{key}={value}: a pretrained model has its own; type model.weights=init to "
                f"draw a model of another size"
                for key, value in self.sizes.items()
            ]
            if source is None:
                problems.append("model.source=null: pretrained weights need a source")
        if width and heads and width % heads:
            problems.append(f"model.heads={heads}: must divide model.width={width}")
        if dropout is not None and not 0 <= dropout < 1:
            problems.append(f"model.dropout={dropout}: at least 0 and below 1")
        if source is None and package is not None:
            problems.append(f"model.package={package}: name the folder inside it as model.source")
        if problems:
            raise ConfigError(*problems)
        self.source, self.weights, self.package, self.revision = source, weights, package, revision
        self.vocabulary, self.dropout = vocabulary, dropout
        self.trust_remote_code = trust_remote_code

    @property
    def start(self) -> Literal["init", "pretrained"]:
        """Which weights `build` starts from."""
        return self.weights

    def fingerprint(self) -> str:
        """Identity of the starting weights: "init"; of a local folder, sha256 of its configuration
        and weights; of a hub id, the id and the commit that it resolves to."""
        if self.weights == "init":
            return "init"
        location = self._location()
        if is_local(location):
            return weights_digest(location)
        return f"{location}@{self._config(None)._commit_hash or self.revision or 'main'}"

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
        if self.source is None:
            raise ConfigError("model.source=null has no tokenizer: type model.vocabulary=4000")
        from transformers import AutoTokenizer

        with reading(self.source):
            return AutoTokenizer.from_pretrained(self._location(), **self._from())

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

        config = self._config(info)
        name = str(self.source)
        with reading(name):
            if meta or self.weights == "init":
                with torch.device("meta" if meta else "cpu"):
                    model = Auto.from_config(
                        config,
                        attn_implementation="sdpa",
                        dtype=torch.float32,
                        trust_remote_code=self.trust_remote_code,
                    )
            else:
                model, report = Auto.from_pretrained(
                    self._location(),
                    config=config,
                    attn_implementation="sdpa",
                    dtype=torch.float32,  # never the checkpoint's own half precision
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,  # another number of classes: a new head
                    output_loading_info=True,
                    **self._from(),
                )
        model.parts = find_parts(model, model.base_model_prefix, name)  # type: ignore[assignment]
        if not meta and self.weights == "pretrained":
            _check_loaded(report, model, name)
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

    def _location(self) -> str:
        assert self.source is not None
        return locate(self.source, self.package)

    def _from(self) -> dict[str, Any]:
        """How every file of the source is asked for."""
        local = is_local(self._location()) or not hub_reachable()
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": local,  # a hub id may still be in the local cache
        }

    def _config(self, info: DataInfo | None) -> PreTrainedConfig:
        from transformers import AutoConfig, BertConfig

        if self.source is None:
            config: PreTrainedConfig = BertConfig()
        else:
            with reading(self.source):
                config = AutoConfig.from_pretrained(self._location(), **self._from())
        for key, value in self.sizes.items():
            _set(config, FIELDS[key], value, f"model.{key}")
        if self.dropout is not None:
            _set(config, DROPOUTS, self.dropout, "model.dropout")
        heads, width = config.num_attention_heads, config.hidden_size
        if width % heads:
            raise ConfigError(f"model.heads={heads}: must divide the width, which is {width}")
        if info is not None:
            classes = info.classes or ("score",)
            config.id2label = dict(enumerate(classes))
            config.label2id = {label: index for index, label in enumerate(classes)}
            config.problem_type = "single_label_classification" if info.classes else "regression"
        return config


def _set(config: PreTrainedConfig, names: tuple[str, ...], value: Any, key: str) -> None:
    present = [name for name in names if hasattr(config, name)]
    if not present:
        raise ConfigError(f"{key}={value}: a {config.model_type} configuration has no such size")
    for name in present:
        setattr(config, name, value)


def _check_loaded(report: dict[str, Any], model: nn.Module, source: str) -> None:
    """Only the head (and the pooler that feeds it) may be missing from a checkpoint."""
    own = (*parts_of(model).head, f"{model.base_model_prefix}.pooler")
    mismatched = [key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]]
    lacking = sorted(
        key for key in [*report["missing_keys"], *mismatched] if not key.startswith(own)
    )
    if lacking:
        raise ConfigError(
            f"model.source={source}: the checkpoint lacks {len(lacking)} weights of the encoder, "
            f"e.g. {lacking[0]}; give a checkpoint of a {type(model).__name__}"
        )
