"""Which tokens make a word: what `explain` leaves out together, in the graph, and what is coloured together here.

Pure: numbers and strings in, numbers out. The rule is the contract of the graph too, which gets it as tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["WordRule", "spans"]

_SPACE: Final = "▁"  # how SentencePiece writes a space
_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")
# Thai, Lao, Burmese, Khmer; symbols; Chinese, Japanese; emoji. What is written without spaces is taken apart.
_ALONE: Final = (
    (0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x2600, 0x27C0), (0x2E80, 0xA4D0), (0xF900, 0xFB00),
    (0x1F000, 0x40000),
)  # fmt: skip


class WordRule:
    """A word is what stands between spaces; characters of scripts without spaces, and emoji, are words each.

    Attributes:
        starts: bool array of shape (ids,): a token with this id begins a word.
        bare: bool array of shape (ids,): it is a space alone, and what follows belongs to it.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.starts: npt.NDArray[np.bool_] = np.array([_starts(piece) for piece in pieces], np.bool_)
        self.bare: npt.NDArray[np.bool_] = np.array([piece == _SPACE for piece in pieces], np.bool_)

    def numbers(self, tokens: npt.NDArray[np.int32], pad_id: int) -> npt.NDArray[np.int32]:
        """The number of each token's word, from 0: int32 array like `tokens`, of shape (length,); -1 for padding."""
        ids = np.clip(tokens, 0, len(self.starts) - 1)
        begins = self.starts[ids]
        begins[1:] &= ~self.bare[ids[:-1]]
        begins[:1] = True
        there = tokens != pad_id
        found: npt.NDArray[np.int32] = np.where(there, np.cumsum(begins & there) - 1, -1).astype(np.int32)
        return found


def spans(processor: Any, text: str) -> list[tuple[int, int]]:
    """Where each token's text begins and ends in `text`; the first bytes of a character have none."""
    # Older releases of sentencepiece have the first method, newer ones the second.
    encode = getattr(processor, "encode_as_immutable_proto", None) or processor.encode_as_proto
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
    return piece[:1] == _SPACE or any(low <= ord(piece[:1] or " ") < high for low, high in _ALONE)
