"""What every tokenizer can do, and which one a spec asks for. A kind's library is imported when one asks for it."""

from __future__ import annotations

from typing import Protocol

from duoserve.contract import SENTENCEPIECE, PreprocessingSpec
from duoserve.preprocessing.words import WordRule

__all__ = ["Tokenizer", "load_tokenizer"]


class Tokenizer(Protocol):
    """Ids of texts. Safe for many threads.

    Attributes:
        size: One more than the largest id.
        prefix: The ids before those of every text, such as that of [CLS].
        suffix: The ids after them, such as that of [SEP]; a text that is too long is cut before these.
        words: Which ids begin a word.
    """

    @property
    def size(self) -> int: ...

    @property
    def prefix(self) -> tuple[int, ...]: ...

    @property
    def suffix(self) -> tuple[int, ...]: ...

    @property
    def words(self) -> WordRule: ...

    def piece(self, number: int) -> str:
        """How the vocabulary writes an id; empty for one that no piece has."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text alone, without `prefix` and `suffix`, however many."""
        ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where in the text the token of each id begins and ends, in characters. An empty span: nowhere of its own."""
        ...


def load_tokenizer(spec: PreprocessingSpec) -> Tokenizer:
    """The tokenizer of a spec.

    Raises:
        ContractError: Its bytes are no tokenizer of this kind, or a row has no room for its prefix and suffix.
        UnsupportedModel: It needs a package that is not installed.
    """
    if spec.tokenizer_kind == SENTENCEPIECE:
        from duoserve.preprocessing.tokenizers.sentencepieces import SentencePieces

        return SentencePieces(spec.tokenizer)
    from duoserve.preprocessing.tokenizers.hugging_face import HuggingFace

    return HuggingFace(spec)
