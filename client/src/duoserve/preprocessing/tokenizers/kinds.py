"""The interface of tokenizers, and the tokenizer of a spec. A kind's library is imported on first use."""

import functools

from duoserve.contract import SENTENCEPIECE, PreprocessingSpec
from duoserve.preprocessing.words import WordRule


class Tokenizer:
    """Ids of texts. Thread-safe."""

    size: int  # one more than the largest id
    prefix: tuple[int, ...] = ()  # the ids before those of every text, such as that of [CLS]
    suffix: tuple[int, ...] = ()  # the ids after them, such as that of [SEP]; too long a text is cut before these

    @functools.cached_property
    def words(self) -> WordRule:
        """Which ids begin a word."""
        raise NotImplementedError

    def piece(self, number: int) -> str:
        """The piece of an id in the vocabulary; empty for an id without a piece."""
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """All ids of a text, without `prefix` and `suffix`."""
        raise NotImplementedError

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where in the text the token of each id begins and ends, in characters. An empty span: not in the text."""
        raise NotImplementedError


def load_tokenizer(spec: PreprocessingSpec) -> Tokenizer:
    """The tokenizer of a spec.

    Raises:
        ContractError: Its bytes are not a tokenizer of this kind, or a row has no room for its prefix and suffix.
        UnsupportedModel: It needs a package that is not installed.
    """
    if spec.tokenizer_kind == SENTENCEPIECE:
        from duoserve.preprocessing.tokenizers.sentencepieces import SentencePieces

        return SentencePieces(spec.tokenizer)
    from duoserve.preprocessing.tokenizers.hugging_face import HuggingFace

    return HuggingFace(spec)
