"""Functions of single characters as tables in the graph, taken from the client's own library.

TensorFlow's ICU and RE2 use other releases of Unicode than Hugging Face's `tokenizers`. So the export asks the latter
how it maps each character, once for all of Unicode, and the graph looks it up.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

CODE_POINTS: Final = (*range(0xD800), *range(0xE000, 0x110000))
"""The code points that UTF-8 encodes: all except the surrogates."""

_ALL: Final = 0x110000
_BLOCK: Final = 128
_ITSELF: Final = -1
_PART: Final = "|"
_FIRST: Final = "\u0334"  # of the combining class 1
_LAST: Final = "\u0345"  # of 240, the largest

Ints = npt.NDArray[np.int32]


class Classes:
    """A small number for each code point; default 0. Equal blocks of the table are stored once."""

    def __init__(self, values: Mapping[int, int]) -> None:
        table = np.zeros(_ALL, np.int32)
        table[list(values.keys())] = list(values.values())
        blocks, places = np.unique(table.reshape(-1, _BLOCK), axis=0, return_inverse=True)
        self._blocks: Ints = blocks.reshape(-1)
        self._places: Ints = places.reshape(-1).astype(np.int32)

    def __call__(self, code_points: tf.Tensor) -> tf.Tensor:
        """int32 array of shape (n,), of one of the same shape."""
        block = tf.gather(tf.constant(self._places), code_points // _BLOCK)
        return tf.gather(tf.constant(self._blocks), block * _BLOCK + code_points % _BLOCK)


class Rewriting:
    """Any function from a character to a string, applied to each character of a text.

    Args:
        function: Maps a text character by character; keeps "|".
        fixed: Code points with another result.
    """

    def __init__(self, function: Callable[[str], str], fixed: Mapping[int, str]) -> None:
        rows: dict[tuple[int, ...], int] = {(_ITSELF,): 0}
        slots = {}
        # In one call, separated by a character that no other one maps to: a million calls would take seconds.
        parted = [each for each in CODE_POINTS if chr(each) != _PART]
        for code_point, found in zip(parted, function(_PART.join(map(chr, parted))).split(_PART), strict=True):
            found = fixed.get(code_point, found)
            if found == chr(code_point):
                continue
            # " 国 " is one row for all of Chinese.
            row = tuple(_ITSELF if ord(each) == code_point else ord(each) for each in found)
            slots[code_point] = rows.setdefault(row, len(rows))
        self._slots = Classes(slots)
        self._lengths: Ints = np.array([len(row) for row in rows], np.int32)
        self._starts: Ints = np.cumsum(self._lengths, dtype=np.int32) - self._lengths
        self._rows: Ints = np.array([each for row in rows for each in row], np.int32)

    def __call__(self, code_points: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The results of the characters in order, and the text of each.

        Args:
            code_points: int32 array of shape (n,), of all texts.
            rows: int64 array of shape (n,): the text that each is of.
        """
        slots = self._slots(code_points)
        lengths = tf.gather(tf.constant(self._lengths), slots)
        source = tf.repeat(tf.range(tf.size(code_points)), lengths)
        within = tf.range(tf.size(source)) - tf.gather(tf.cumsum(lengths, exclusive=True), source)
        start = tf.gather(tf.constant(self._starts), tf.gather(slots, source))
        found = tf.gather(tf.constant(self._rows), start + within)
        return tf.where(found == _ITSELF, tf.gather(code_points, source), found), tf.gather(rows, source)


def ordering(normalise: Callable[[str], str], known: Mapping[int, int]) -> dict[int, int]:
    """The combining classes by which a library sorts marks that follow one another; those of class 0 are left out.

    Args:
        normalise: To NFD, by the library.
        known: Combining classes of a newer release of Unicode.

    Raises:
        ValueError: The library sorts by other classes.
    """
    found = {
        code_point: number
        for code_point, number in known.items()
        if any(normalise(text) != text for text in (_LAST + chr(code_point), chr(code_point) + _FIRST))
        and normalise(chr(code_point)) == chr(code_point)
    }
    marks = {number: code_point for code_point, number in found.items()}
    for code_point in found:
        for mark in marks.values():
            for pair in ((code_point, mark), (mark, code_point)):
                expected = "".join(map(chr, sorted(pair, key=found.__getitem__)))
                if normalise(chr(pair[0]) + chr(pair[1])) != expected:
                    raise ValueError(f"U+{code_point:04X} is not of the combining class {found[code_point]}")
    return found
