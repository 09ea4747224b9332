"""EXIF orientation of a JPEG, read and applied by graph operations.

Phones store a picture as the sensor saw it and say in EXIF tag 0x0112 how to turn it. TensorFlow's
decoders ignore that tag; without this, the picture that the client sends as pixels and the one
that it sends as bytes would differ by a quarter turn. The rule is that of
`duoserve.preprocessing.preprocessor.exif_orientation`.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_SEARCHED = 1 << 20
"""Bytes that are looked through. Exif is one of the first segments, none of which is over 64 KiB."""

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_APP1 = 0xE1
_START_OF_SCAN = 0xDA
_EXIF = (0x45, 0x78, 0x69, 0x66, 0, 0)
_LITTLE = (0x49, 0x49, 0x2A, 0)
_BIG = (0x4D, 0x4D, 0, 0x2A)

_Byte = Callable[[tf.Tensor], tf.Tensor]
"""Values of the bytes at int32 offsets; zero beyond the end, where a gather would fail."""


def orientation(data: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of an encoded image: int32 scalar, 1 to 8; 1 where there is none.

    Never fails: bytes that are no JPEG, or broken EXIF, have orientation 1.

    Args:
        data: string scalar, the file's bytes.
    """
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, _SEARCHED), tf.uint8), tf.int32)
    size = tf.size(head)
    padded = tf.concat([head, tf.zeros([1], tf.int32)], 0)

    def byte(at: tf.Tensor) -> tf.Tensor:
        inside = (at >= 0) & (at < size)
        return tf.gather(padded, tf.where(inside, at, size))

    tiff, end = _find_tiff(byte, size)
    return tf.cond(end > tiff, lambda: _read_tag(byte, tiff, end), lambda: tf.constant(1))


def upright(pixels: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Turns a decoded picture the way its EXIF orientation asks.

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


def _find_tiff(byte: _Byte, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Start and end of the TIFF structure in the first Exif segment; both 0 where there is none."""

    def going(at: tf.Tensor, more: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return more & (at + 4 <= size)

    # A step reads one segment's head with a single gather: a graph loop pays for every operation.
    def step(at: tf.Tensor, more: tf.Tensor, tiff: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, ...]:
        head = byte(at + tf.range(10))
        marker, length = head[1], head[2] * 256 + head[3]
        padding = marker == 0xFF
        after = at + 2 + length
        whole = ~padding & (head[0] == 0xFF) & (length >= 2) & (after <= size)
        found = whole & (marker == _APP1) & (length >= 8) & tf.reduce_all(head[4:] == _EXIF)
        more = ((head[0] == 0xFF) & padding) | (whole & ~found & (marker != _START_OF_SCAN))
        return tf.where(padding, at + 1, after), more, tf.where(found, at + 10, tiff), tf.where(found, after, end)

    is_jpeg = tf.reduce_all(byte(tf.range(3)) == [0xFF, 0xD8, 0xFF])
    zero = tf.constant(0)
    _, _, tiff, end = tf.while_loop(going, step, (tf.constant(2), is_jpeg, zero, zero))
    return tiff, end


def _read_tag(byte: _Byte, tiff: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """The orientation in the first image directory of a TIFF structure; 1 where it has none."""
    magic = byte(tiff + tf.range(4))
    little = tf.reduce_all(magic == _LITTLE)
    known = (little | tf.reduce_all(magic == _BIG)) & (tiff + 8 <= end)

    def read16(at: tf.Tensor) -> tf.Tensor:
        first, second = byte(at), byte(at + 1)
        return tf.where(little, second * 256 + first, first * 256 + second)

    def read32(at: tf.Tensor) -> tf.Tensor:
        first, second = read16(at), read16(at + 2)
        low, high = tf.where(little, first, second), tf.where(little, second, first)
        # No segment is that long: clipped, it is still beyond the end, and doesn't overflow.
        return tf.minimum(high, 0x3FFF) * 65536 + low

    directory = tiff + read32(tiff + 4)
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
