"""WebP files in the graph. Twin: `duoserve.preprocessing.webp`."""

import tensorflow as tf

from duoserve.preprocessing.image_headers import MAX_PARTS, Background, Refused
from export.graph.image_headers import File, check, little_endian, size_errors
from export.graph.transparency import flatten

_EXTENDED, _LOSSLESS, _EXIF = (int.from_bytes(name, "little") for name in (b"VP8X", b"VP8L", b"EXIF"))
_ANIMATED, _HAS_EXIF = 0x02, 0x08


def decode_webp(data: tf.Tensor, background: Background | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels, uint8 array of shape (any, any, 3), RGB, as stored; and the EXIF block, string scalar, empty without one.

    Args:
        data: string scalar, the file.
        background: Under transparent pixels. None: alpha is dropped.
    """
    file = File(data)
    head = file.read(12, 18)
    kind = little_endian(head[:4])
    extended = kind == _EXTENDED
    flags = tf.where(extended, head[8], 0)
    height, width = _size(head, kind)
    errors = {**size_errors(height, width), Refused.ANIMATED: flags & _ANIMATED > 0}
    with tf.control_dependencies([check(errors)]):
        decoded = tf.io.decode_webp(data, channels=0)[0]  # 4 channels where the file has alpha, else 3
    colours = decoded[:, :, :3]
    if background is not None:
        colours = tf.cond(tf.shape(decoded)[2] == 4, lambda: flatten(decoded, background), lambda: colours)
    exif = tf.cond(flags & _HAS_EXIF > 0, lambda: _exif(file), lambda: tf.constant(b""))
    return colours, exif


def _size(head: tf.Tensor, kind: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width from the header of the first chunk."""
    bits = little_endian(head[9:13])
    lossless = tf.bitwise.right_shift(bits, 14) & 0x3FFF, bits & 0x3FFF
    extended = little_endian(head[15:18]), little_endian(head[12:15])
    lossy = little_endian(head[16:18]) & 0x3FFF, little_endian(head[14:16]) & 0x3FFF
    sizes = tf.stack([tf.stack(lossless) + 1, tf.stack(extended) + 1, tf.stack(lossy)])
    known = [kind == _LOSSLESS, kind == _EXTENDED, True]
    height, width = tf.unstack(sizes[tf.argmax(tf.cast(tf.stack(known), tf.int32))])
    return height, width


def _exif(file: File) -> tf.Tensor:
    """The content of the first chunk EXIF; empty where there is none."""
    end = little_endian(file.read(4, 4)) + 8
    end = tf.where((end >= 8) & (end < file.size), end, file.size)

    def more(at: tf.Tensor, start: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return (start == 0) & (at + 8 <= end)

    def step(at: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, ...]:
        octets = file.read(at, 8)
        name, size = little_endian(octets[:4]), little_endian(octets[4:])
        valid = (size >= 0) & (size <= end - at - 8)
        after = tf.where(valid, at + 8 + size + size % 2, end)
        return after, tf.where(valid & (name == _EXIF), at + 8, 0), size

    zero = tf.constant(0)
    _, start, size = tf.while_loop(more, step, (tf.constant(12), zero, zero), maximum_iterations=MAX_PARTS)
    return file.slice(start, tf.where(start > 0, size, 0))
