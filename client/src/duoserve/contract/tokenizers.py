"""Kinds of tokenizers, and how a spec contains one. Pure data, like all of `duoserve.contract`."""

import zlib
from typing import Final

from duoserve.contract.records import ContractError

__all__ = ["BPE", "SENTENCEPIECE", "TOKENIZERS", "UNIGRAM", "WORDPIECE", "pack_tokenizer", "unpack_tokenizer"]

SENTENCEPIECE: Final = "sentencepiece"  # a serialised SentencePiece model, unchanged
WORDPIECE: Final = "wordpiece"
BPE: Final = "bpe"
UNIGRAM: Final = "unigram"
"""These three are a packed `tokenizer.json` of Hugging Face's library `tokenizers`, with a model of this type."""

TOKENIZERS: Final = (SENTENCEPIECE, WORDPIECE, BPE, UNIGRAM)

_LARGEST: Final = 1 << 28  # bytes of a tokenizer.json: a decompression bomb is refused before it is unpacked


def pack_tokenizer(text: str) -> bytes:
    """The text of a `tokenizer.json` for `PreprocessingSpec.tokenizer`: every `describe` carries it, so zlib."""
    return zlib.compress(text.encode("utf-8"), 9)


def unpack_tokenizer(data: bytes) -> str:
    """What `pack_tokenizer` packed. Raises ContractError for anything else."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, _LARGEST).decode("utf-8")
    except (zlib.error, UnicodeDecodeError) as error:
        raise ContractError(f"Expected tokenizer to be a packed tokenizer.json. Received: {error}") from error
    if not unpacker.eof:
        raise ContractError(f"Expected tokenizer to be a packed tokenizer.json of at most {_LARGEST} bytes")
    return text
