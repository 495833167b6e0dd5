"""A WordPiece vocabulary of one's own, for models that are drawn and not downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gossamer.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_CHARACTERS = 1_000_000  # no limit: a limit would drop rare characters in the order of a hash


def train_wordpiece(texts: Iterable[str], size: int) -> PreTrainedTokenizerBase:
    """An uncased BERT tokenizer with at most `size` pieces, learned from `texts`.

    Wu et al. 2016 (arXiv:1609.08144), section 4.1. The same texts give the same vocabulary in
    every process.

    Raises:
        ConfigError: `size` does not even hold the characters of the texts.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import WordPieceTrainer
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    texts = list(texts)
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, splitter
    # The trainer numbers the inner characters (##a) in the order of a hash map that differs between
    # processes, and breaks ties between merges by these numbers. Naming them first fixes both.
    words = (
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    inner = [f"##{character}" for character in sorted({one for word in words for one in word[1:]})]
    trainer = WordPieceTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL, *inner],
        limit_alphabet=MAX_CHARACTERS,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    vocabulary = learner.get_vocab()
    if len(vocabulary) > size:
        raise ConfigError(
            f"model.vocabulary={size}: the characters alone need {len(vocabulary)} pieces; "
            f"type model.vocabulary={max(1000, 2 * len(vocabulary))}"
        )
    # a second tokenizer, because to the first one the inner characters are special tokens
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
