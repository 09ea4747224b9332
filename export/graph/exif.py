"""The EXIF orientation, read and applied by graph operations. Twin: `duoserve.preprocessing.exif`.

Phones store an image as the sensor saw it and note in EXIF tag 0x0112 how to turn it. TensorFlow's
decoders ignore that tag.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from duoserve.preprocessing.exif import EXIF_PREFIX

__all__ = ["orientation", "upright"]

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_LITTLE = (0x49, 0x49, 0x2A, 0)
_BIG = (0x4D, 0x4D, 0, 0x2A)

_Byte = Callable[[tf.Tensor], tf.Tensor]
"""Values of the bytes at int32 offsets; zero beyond the end, where a gather would fail."""


def orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation that an EXIF block asks for: int32 scalar, 1 to 8; 1 where there is none, or a broken one.

    Args:
        exif: string scalar.
    """
    for _ in range(2):
        begins = tf.strings.substr(exif, 0, len(EXIF_PREFIX)) == EXIF_PREFIX
        exif = tf.strings.substr(exif, tf.where(begins, len(EXIF_PREFIX), 0), tf.strings.length(exif))
    octets = tf.io.decode_raw(exif, tf.uint8)
    size = tf.size(octets)
    padded = tf.concat([octets, tf.zeros([1], tf.uint8)], 0)

    def byte(at: tf.Tensor) -> tf.Tensor:
        inside = (at >= 0) & (at < size)
        return tf.cast(tf.gather(padded, tf.where(inside, at, size)), tf.int32)

    return _read_tag(byte, size)


def upright(pixels: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Turns a decoded image by its EXIF orientation.

    Args:
        pixels: uint8 array of shape (height, width, 3), RGB, as stored in the file.
        turn: int32 scalar, 1 to 8.
    """

    def transposed() -> tf.Tensor:
        return tf.transpose(pixels, [1, 0, 2])

    moves = {
        0: lambda: pixels,
        1: lambda: tf.reverse(pixels, [1]),
        2: lambda: tf.reverse(pixels, [0, 1]),
        3: lambda: tf.reverse(pixels, [0]),
        4: transposed,
        5: lambda: tf.reverse(transposed(), [1]),
        6: lambda: tf.reverse(transposed(), [0, 1]),
        7: lambda: tf.reverse(transposed(), [0]),
    }
    return tf.switch_case(turn - 1, moves)


def _read_tag(byte: _Byte, end: tf.Tensor) -> tf.Tensor:
    """The orientation in the first image directory of a TIFF structure; 1 where it has none."""
    magic = byte(tf.range(4))
    little = tf.reduce_all(magic == _LITTLE)
    known = (little | tf.reduce_all(magic == _BIG)) & (end >= 8)

    def read16(at: tf.Tensor) -> tf.Tensor:
        first, second = byte(at), byte(at + 1)
        return tf.where(little, second * 256 + first, first * 256 + second)

    def read32(at: tf.Tensor) -> tf.Tensor:
        first, second = read16(at), read16(at + 2)
        low, high = tf.where(little, first, second), tf.where(little, second, first)
        # No segment is that long: clipped, it is still beyond the end, and doesn't overflow.
        return tf.minimum(high, 0x3FFF) * 65536 + low

    directory = read32(tf.constant(4))
    known &= directory + 2 <= end
    most = tf.maximum(end - directory - 2, 0) // 12
    count = tf.where(known, tf.minimum(read16(directory), most), 0)
    entries = directory + 2 + 12 * tf.range(count)
    tagged = tf.boolean_mask(entries, read16(entries) == _ORIENTATION_TAG)

    def value() -> tf.Tensor:
        entry = tagged[0]
        found = read16(entry + 8)
        valid = (read16(entry + 2) == _SHORT) & (read32(entry + 4) == 1) & (found >= 1) & (found <= 8)
        return tf.where(valid, found, 1)

    return tf.cond(tf.size(tagged) > 0, value, lambda: tf.constant(1))
