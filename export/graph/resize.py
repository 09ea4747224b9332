"""Pillow's bilinear resize as graph operations, bit for bit.

The client resizes with Pillow. `tf.image.resize(antialias=True)` is the same filter in floats:
one pixel in ten differs by a level, which sometimes changes an answer. So the graph does
what Pillow's `Resample.c` does: rows, then columns, each with weights of 22 bits and rounded.
"""

import tensorflow as tf

_PRECISION_BITS = 22
"""`PRECISION_BITS` in Resample.c: a byte times a weight, summed up, fits 32 bits."""


def resize(pixels: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """uint8 array of shape (height, width, 3), the same as `Image.resize(…, BILINEAR)` gives.

    Args:
        pixels: uint8 array of shape (any, any, 3).
        height: Rows of the result.
        width: Columns of the result.
    """
    pixels = _resample(pixels, width, axis=1)
    return tf.ensure_shape(_resample(pixels, height, axis=0), [height, width, 3])


def _resample(pixels: tf.Tensor, size: int, axis: int) -> tf.Tensor:
    first, weights = _weights(tf.shape(pixels)[axis], size)
    last = tf.shape(pixels)[axis] - 1
    across = [1, size, 1] if axis == 1 else [size, 1, 1]

    # A loop over the taps needs the memory of the result only; all taps at once would need, for a
    # 12-megapixel PNG, 300 MB.
    def add(tap: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = tf.gather(pixels, tf.minimum(first + tap, last), axis=axis)
        return tap + 1, total + tf.cast(values, tf.int32) * tf.reshape(weights[:, tap], across)

    shape = tf.where(tf.range(3) == axis, size, tf.shape(pixels))
    half = tf.fill(shape, 1 << (_PRECISION_BITS - 1))
    invariants = (tf.TensorShape([]), tf.TensorShape([None, None, None]))
    _, total = tf.while_loop(
        lambda tap, _: tap < tf.shape(weights)[1], add, (tf.constant(0), half), invariants, parallel_iterations=1
    )
    return tf.cast(tf.clip_by_value(tf.bitwise.right_shift(total, _PRECISION_BITS), 0, 255), tf.uint8)


def _weights(length: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """For each position of the result the first one of the source that counts, and its weights.

    `precompute_coeffs` and `normalize_coeffs_8bpc` in Resample.c.

    Returns:
        int32 arrays of shape (size,) and (size, taps).
    """
    scale = tf.cast(length, tf.float64) / size
    support = tf.maximum(scale, 1.0)  # the triangle's width is 1, stretched when shrinking
    center = (tf.range(size, dtype=tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(center - support + 0.5, tf.int32), 0)
    end = tf.minimum(tf.cast(center + support + 0.5, tf.int32), length)
    taps = tf.range(tf.cast(tf.math.ceil(support), tf.int32) * 2 + 1)
    position = tf.cast(first[:, None] + taps, tf.float64)
    weights = tf.maximum(1.0 - tf.abs((position - center[:, None] + 0.5) * (1.0 / support)), 0.0)
    weights = tf.where(taps < (end - first)[:, None], weights, 0.0)
    weights *= 1.0 / tf.reduce_sum(weights, axis=1, keepdims=True)
    return first, tf.cast(0.5 + weights * (1 << _PRECISION_BITS), tf.int32)
