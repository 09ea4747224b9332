"""SentencePiece models, by `sentencepiece`."""

import functools
import re
from typing import Final

import sentencepiece

from duoserve.contract import ContractError
from duoserve.preprocessing.tokenizers.kinds import Tokenizer
from duoserve.preprocessing.words import WordRule, is_written_without_spaces

_SPACE: Final = "▁"  # how SentencePiece writes a space
_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")


class SentencePieces(Tokenizer):
    """A serialised SentencePiece model. Words are separated by spaces."""

    def __init__(self, model: bytes) -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ContractError(f"Expected tokenizer to be a SentencePiece model. Received: {error}") from error
        self.size = int(self._processor.get_piece_size())

    @functools.cached_property
    def words(self) -> WordRule:
        pieces = [self.piece(number) for number in range(self.size)]
        return WordRule([_starts(piece) for piece in pieces], joined=[piece == _SPACE for piece in pieces])

    def piece(self, number: int) -> str:
        return str(self._processor.id_to_piece(number))

    def encode(self, text: str) -> list[int]:
        found: list[int] = self._processor.encode(text)
        return found

    def spans(self, text: str) -> list[tuple[int, int]]:
        # The first bytes of a character that has no piece have an empty span.
        # Older releases of sentencepiece have the first method, newer ones the second.
        encode = getattr(self._processor, "encode_as_immutable_proto", None) or self._processor.encode_as_proto
        found, end = [], 0
        for piece in encode(text).pieces:
            # By the text itself: whether offsets count bytes or characters depends on the release.
            begin = text.find(piece.surface, end)
            if begin >= 0:
                found.append((begin, begin + len(piece.surface)))
                end = found[-1][1]
            else:
                found.append((end, end))
        return found


def _starts(piece: str) -> bool:
    byte = _BYTE.fullmatch(piece)
    if byte:  # of a character that has no piece: the first of three or four
        return int(byte[1], 16) >= 0xE0
    return piece[:1] == _SPACE or is_written_without_spaces(piece)
