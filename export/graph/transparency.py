"""Transparent pixels on the background of the spec, in integers. Twin: `duoserve.preprocessing.transparency`."""

import tensorflow as tf

from duoserve.preprocessing.image_headers import Background

_AT_ONCE = 1 << 20
"""Pixels that are blended in one step, as 16-bit values take several times the memory of the image."""


def flatten(pixels: tf.Tensor, background: Background) -> tf.Tensor:
    """uint8 array of shape (height, width, 3): `colour * alpha / 255 + background * (255 - alpha) / 255`, rounded.

    Args:
        pixels: uint8 array of shape (height, width, 4), RGBA.
        background: What shows through.
    """
    height, width = tf.unstack(tf.shape(pixels)[:2])
    rows = tf.maximum(_AT_ONCE // tf.maximum(width, 1), 1)

    def blend(part: tf.Tensor) -> tf.Tensor:
        wide = tf.cast(part, tf.uint16)
        colour, cover = wide[:, :, :3], wide[:, :, 3:]
        total = colour * cover + tf.constant(background, tf.uint16) * (255 - cover) + 128  # at most 65,153
        return tf.cast(tf.bitwise.right_shift(total + tf.bitwise.right_shift(total, 8), 8), tf.uint8)

    def in_parts() -> tf.Tensor:
        count = -(-height // rows)
        done = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None, None, 3])

        def step(number: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return number + 1, done.write(number, blend(pixels[number * rows : (number + 1) * rows]))

        first = tf.constant(0), done
        return tf.while_loop(lambda number, _: number < count, step, first, parallel_iterations=1)[1].concat()

    return tf.cond(height <= rows, lambda: blend(pixels), in_parts)
