"""PNG files in the graph: refuses what the client refuses and libpng does not. Twin: `duoserve.preprocessing.png`."""

import tensorflow as tf

from duoserve.preprocessing.image_headers import MAX_PARTS, Background, Refused
from export.graph.image_headers import File, big_endian, check, size_errors
from export.graph.transparency import flatten

_IDAT, _IEND, _ANIMATED, _TRANSPARENCY, _EXIF = (
    int.from_bytes(name, "big") for name in (b"IDAT", b"IEND", b"acTL", b"tRNS", b"eXIf")
)
_RUN_BYTES = 1 << 20
_ALPHA = 4
"""Bit of the colour type."""


def decode_png(data: tf.Tensor, background: Background | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels, uint8 array of shape (any, any, 3), RGB, as stored; and the EXIF block, string scalar, empty without one.

    Args:
        data: string scalar, the file.
        background: Under transparent pixels. None: alpha is dropped.
    """
    file = File(data)
    header = file.read(16, 10)
    count, animated, keyed, exif_at, exif_size = _chunks(file)
    errors = {
        **size_errors(big_endian(header[4:8]), big_endian(header[:4])),
        Refused.ANIMATED: animated,
        Refused.PARTS: count > MAX_PARTS,
    }
    has_alpha = keyed | (header[9] & _ALPHA > 0)

    def opaque() -> tf.Tensor:
        return tf.io.decode_png(data, channels=3)

    with tf.control_dependencies([check(errors)]):
        if background is None:
            pixels = opaque()
        else:
            pixels = tf.cond(has_alpha, lambda: flatten(_with_alpha(data, depth=header[8]), background), opaque)
    return pixels, file.slice(exif_at, exif_size)


def _with_alpha(data: tf.Tensor, depth: tf.Tensor) -> tf.Tensor:
    """uint8 array of shape (height, width, 4), RGBA."""
    pixels = tf.io.decode_png(data, channels=4)
    # Where libpng refuses tRNS, TensorFlow fills alpha with the largest number of that many bits: 1, 3, 15.
    filler = tf.cast(tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1, tf.uint8)
    return tf.cond(
        tf.reduce_all(pixels[:, :, 3] == filler), lambda: pixels | tf.constant([0, 0, 0, 255], tf.uint8), lambda: pixels
    )


def _chunks(file: File) -> tuple[tf.Tensor, ...]:
    """How many chunks there are; whether one is acTL; or tRNS; start and size of the last eXIf, 0 without one."""

    def more(at: tf.Tensor, last: tf.Tensor, count: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return ~last & (at + 12 <= file.size) & (count <= MAX_PARTS)

    def step(
        at: tf.Tensor, last: tf.Tensor, count: tf.Tensor, animated: tf.Tensor, keyed: tf.Tensor, *exif: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        octets = file.read(at, 8)
        length, name = big_endian(octets[:4]), big_endian(octets[4:])
        # A length from 2^31 on is negative here; libpng refuses it.
        last = (name == _IEND) | (length < 0) | (length > file.size - at - 12)
        is_exif = (name == _EXIF) & ~last
        stride = tf.maximum(12 + length, 12)
        run = tf.where(last, 0, _run(file, at, stride, (name == _IDAT) & ~last))
        return (
            at + run * stride,
            last,
            count + run,
            animated | (name == _ANIMATED),
            keyed | (name == _TRANSPARENCY),
            tf.where(is_exif, at + 8, exif[0]),
            tf.where(is_exif, length, exif[1]),
        )

    no, zero = tf.constant(False), tf.constant(0)
    _, _, *found = tf.while_loop(more, step, (tf.constant(8), no, zero, no, no, zero, zero))
    return tuple(found)


def _run(file: File, at: tf.Tensor, stride: tf.Tensor, is_data: tf.Tensor) -> tf.Tensor:
    """How many chunks of compressed pixels of one size follow one another: int32 scalar, 1 where there are others."""
    most = tf.minimum(tf.maximum(_RUN_BYTES // stride, 1), (file.size - at) // stride)

    def counted() -> tf.Tensor:
        octets = tf.io.decode_raw(file.slice(at, most * stride), tf.uint8)
        heads = tf.reshape(octets, [-1, stride])[:, :8]
        return tf.reduce_sum(tf.math.cumprod(tf.cast(tf.reduce_all(heads == heads[0], axis=-1), tf.int32)))

    return tf.cond(is_data & (most > 1), counted, lambda: tf.constant(1))
