"""Trains the SentencePiece model that turns text into token ids.

The options are chosen so that `sentencepiece` in the client and `tensorflow_text` in the graph
give the same ids for any text, and so that any text gives useful ones:

- byte fallback: a character that training never saw becomes its UTF-8 bytes, not "unknown";
- NFKC with case folding: full-width, half-width, upper and lower case are the same;
- id 0 is padding and never stands for text, so a mask can distinguish the two.
"""

import io
from collections.abc import Iterable
from typing import Final

import sentencepiece

PAD_ID: Final = 0
"""The id that pads tokens after the text."""

SMALLEST_VOCABULARY: Final = 300  # 256 bytes, padding, "unknown" and a few characters
LARGEST_VOCABULARY: Final = 10_000


class TokenizerError(ValueError):
    """No tokenizer can be trained on these texts."""


def train_tokenizer(texts: Iterable[str], *, vocabulary: int = LARGEST_VOCABULARY) -> bytes:
    """Trains a SentencePiece unigram model. The same texts in the same order give the same bytes.

    Args:
        texts: The training texts, and only these: a tokenizer that saw the held-out ones would leak them.
        vocabulary: Upper limit of the vocabulary. Few texts get fewer pieces.

    Returns:
        The serialised model, for `PreprocessingSpec.tokenizer`.

    Raises:
        TokenizerError: `vocabulary` is out of range, or the texts hold no characters to learn from.
    """
    if not SMALLEST_VOCABULARY <= vocabulary <= LARGEST_VOCABULARY:
        raise TokenizerError(
            f"Expected vocabulary between {SMALLEST_VOCABULARY} and {LARGEST_VOCABULARY}. Received: {vocabulary}"
        )
    # The trainer reads one text a line and stops at a NUL.
    lines = list(filter(None, (" ".join(text.replace("\0", " ").split()) for text in texts)))
    if not lines:
        raise TokenizerError("Expected training texts with visible characters. Received: none")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocabulary,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name="nmt_nfkc_cf",
            max_sentence_length=1 << 20,
            pad_id=PAD_ID,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,  # sums in one order, so the same bytes every time
            minloglevel=4,
        )
    except RuntimeError as error:
        raise TokenizerError(
            f"Expected texts that SentencePiece can learn {vocabulary} pieces from."
            f" Received: {len(lines)} texts ({error})"
        ) from error
    return model.getvalue()
