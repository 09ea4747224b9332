"""Common parts of the JPEG, PNG and WebP header readers. Twin: `duoserve.preprocessing.image_headers`.

Files are read by graph operations on a few bytes at a time, as a graph loop pays for each operation.
"""

from collections.abc import Mapping

import tensorflow as tf

from duoserve.preprocessing.image_headers import MAX_PIXELS, Refused


class File:
    """The bytes of a file.

    Attributes:
        data: string scalar.
        size: int32 scalar.
    """

    def __init__(self, data: tf.Tensor) -> None:
        self.data = data
        self.size = tf.strings.length(data)

    def read(self, at: tf.Tensor | int, count: int) -> tf.Tensor:
        """int32 array of shape (count,): this number of bytes, zeros beyond the end."""
        return tf.cast(self.octets(at, count), tf.int32)

    def octets(self, at: tf.Tensor | int, count: int) -> tf.Tensor:
        """Like `read`, in uint8."""
        return tf.io.decode_raw(self.slice(at, count), tf.uint8, fixed_length=count)

    def slice(self, at: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
        """string scalar: this number of bytes, fewer at the end of the file."""
        return tf.strings.substr(self.data, tf.minimum(at, self.size), count)


def big_endian(octets: tf.Tensor) -> tf.Tensor:
    """int32 scalar of up to 4 bytes; negative from 2^31 on."""
    return little_endian(octets[::-1])


def little_endian(octets: tf.Tensor) -> tf.Tensor:
    """int32 scalar of up to 4 bytes, or array of shape (n,) of one of shape (n, up to 4); negative from 2^31 on."""
    return tf.reduce_sum(octets * [256**place for place in range(octets.shape[-1])], axis=-1)


def size_errors(height: tf.Tensor, width: tf.Tensor) -> Mapping[str, tf.Tensor]:
    """For `check`: images without pixels, and with too many."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    # The height may be negative: it was 2^31 or more.
    return {Refused.NO_PIXELS: pixels == 0, Refused.PIXELS: (pixels > MAX_PIXELS) | (height < 0) | (width < 0)}


def check(errors: Mapping[str, tf.Tensor]) -> tf.Operation:
    """Fails with the first of these texts whose condition holds."""
    texts = tf.constant([*errors, ""])
    first = tf.argmax(tf.cast(tf.stack([*errors.values(), True]), tf.int32))
    return require(first == len(errors), texts[first])


def require(condition: tf.Tensor | bool, text: tf.Tensor) -> tf.Operation:
    """Fails (INVALID_ARGUMENT) with this text where the condition does not hold."""
    return tf.debugging.Assert(condition, [text])
