"""The tokens of each word, which `explain` leaves out together in the graph, by the same rule as tables."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

# Thai, Lao, Burmese, Khmer; symbols; Chinese, Japanese; emoji. Scripts without spaces are split.
_ALONE: Final = (
    (0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x2600, 0x27C0), (0x2E80, 0xA4D0), (0xF900, 0xFB00),
    (0x1F000, 0x40000),
)  # fmt: skip


class WordRule:
    """Words are separated by spaces; each emoji, and each character of a script without spaces, is a word.

    Of each token id, bool arrays of shape (ids,) have whether it begins a word (`starts`), the next one belongs to
    the same word (`joined`), and it is not part of the text, such as [CLS] (`marks`).
    """

    def __init__(self, starts: Sequence[bool], *, joined: Sequence[bool], marks: Iterable[int] = ()) -> None:
        self.starts: npt.NDArray[np.bool_] = np.array(starts, np.bool_)
        self.joined: npt.NDArray[np.bool_] = np.array(joined, np.bool_)
        self.marks: npt.NDArray[np.bool_] = np.isin(np.arange(len(starts)), [*marks])

    def numbers(self, tokens: npt.NDArray[np.int32], pad_id: int) -> npt.NDArray[np.int32]:
        """The number of each token's word, from 0: int32 array like `tokens`, of shape (length,); -1 for no word."""
        ids = np.clip(tokens, 0, len(self.starts) - 1)
        there = (tokens != pad_id) & ~self.marks[ids]
        begins = self.starts[ids]
        begins[1:] &= ~self.joined[ids[:-1]]
        begins[1:] |= ~there[:-1]
        begins[:1] = True
        found: npt.NDArray[np.int32] = np.where(there, np.cumsum(begins & there) - 1, -1).astype(np.int32)
        return found


def is_written_without_spaces(text: str) -> bool:
    """Whether the first character is of such a script."""
    return any(low <= ord(text[:1] or " ") < high for low, high in _ALONE)
