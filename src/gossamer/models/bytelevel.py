"""A byte-level BPE vocabulary of one's own, for language models that are drawn, not downloaded."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gossamer.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END, END_ID = "<|endoftext|>", 0  # special tokens are numbered first
LEAST = 257  # the bytes, and END
MOST = 10_000_000  # characters that a vocabulary is learned from
PIECE = 50_000  # characters of a text that are taken or left together
# LLaMA 3's (Grattafiori et al. 2024, arXiv:2407.21783): contractions, words with one leading sign,
# numbers of up to three digits, signs, line ends, other white space.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_bpe(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with at most `size` pieces, learned from at most 10 million characters of
    `texts` (see `fixed_sample`).

    Sennrich et al. 2016 (arXiv:1508.07909) over bytes, as in GPT-2: all 256 bytes are pieces, so
    every text can be written, no token is unknown, and decoding gives the text back. The one
    special token, <|endoftext|>, is BOS, EOS and padding; none is added by itself. The same texts
    give the same vocabulary in every process.

    Raises:
        ConfigError: `size` does not even hold the bytes and the special token.
    """
    if size < LEAST:
        raise ConfigError(
            f"model.vocabulary={size}: the 256 bytes and {END} need {LEAST} pieces; "
            f"type model.vocabulary=4096"
        )
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # All bytes are numbered before the first merge is learned. So the numbers, by which ties
    # between merges are broken, do not depend on the order of a hash map.
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(fixed_sample(texts, MOST), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
    )


def fixed_sample(texts: Iterable[str], most: int) -> list[str]:
    """Pieces of at most 50,000 characters with `most` characters in all, or everything if there is
    no more: the pieces with the smallest digests, so the sample depends on the texts alone."""
    heap: list[tuple[int, int, str]] = []  # the largest digest first, of two equal ones the later
    total, bound = 0, (-(2**64), 0)  # nothing from the bound on has room, whatever is still to come
    for number, piece in enumerate(_pieces(texts)):
        digest = hashlib.blake2b(piece.encode(), digest_size=8).digest()
        place = (-int.from_bytes(digest, "big"), -number)
        if place <= bound:
            continue
        heapq.heappush(heap, (*place, piece))
        total += len(piece)
        while total > most:
            *last, gone = heapq.heappop(heap)
            bound, total = (last[0], last[1]), total - len(gone)
    return [piece for _, _, piece in sorted(heap, key=lambda each: -each[1])]


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), PIECE):
            yield text[start : start + PIECE]
