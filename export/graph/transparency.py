"""Transparent pixels on the background of the spec, in integers. Twin: `duoserve.preprocessing.transparency`."""

from __future__ import annotations

import tensorflow as tf

from duoserve.preprocessing.image_headers import Background

__all__ = ["flatten"]


def flatten(pixels: tf.Tensor, background: Background) -> tf.Tensor:
    """uint8 array of shape (height, width, 3): `colour * alpha / 255 + background * (255 - alpha) / 255`, rounded.

    Args:
        pixels: uint8 array of shape (height, width, 4), RGBA.
        background: What shows through.
    """
    wide = tf.cast(pixels, tf.uint16)
    colour, cover = wide[:, :, :3], wide[:, :, 3:]
    total = colour * cover + tf.constant(background, tf.uint16) * (255 - cover) + 128  # at most 65,153
    return tf.cast(tf.bitwise.right_shift(total + tf.bitwise.right_shift(total, 8), 8), tf.uint8)
