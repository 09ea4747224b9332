"""Images inside the graph, for the `serving_bytes` signature.

The twin of `duoserve.preprocessing.preprocessor`: pixels are identical, texts are in `export.graph.text`. Whoever
changes one changes both; the gate and `tests/export/test_parity.py` compare them.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from duoserve.contract import IMAGE, PreprocessingSpec
from export.graph.orientation import orientation, upright
from export.graph.resize import resize

__all__ = ["Decoder", "ImageDecoder"]

_JPEG = b"\xff\xd8\xff"
_RATIOS = (1, 2, 4, 8)


class Decoder:
    """Files to rows of the `image` input, of the size that the spec names. Base of one for images and one for clips."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        self._height = spec.image_height
        self._width = spec.image_width
        self._optional = IMAGE in spec.optional

    def __call__(self, encoded: tf.Tensor) -> tf.Tensor:
        """uint8 array of shape (batch, height, width, 3), RGB, 0-255.

        Args:
            encoded: string array of shape (batch,), files. No bytes are a missing image, zeros,
                where the spec has it optional; elsewhere they fail.
        """
        shape = tf.TensorSpec([self._height, self._width, 3], tf.uint8)
        decode = self._decode_any if self._optional else self._decode
        return tf.map_fn(decode, encoded, fn_output_signature=shape)

    def _decode_any(self, data: tf.Tensor) -> tf.Tensor:
        nothing = tf.zeros([self._height, self._width, 3], tf.uint8)
        return tf.cond(tf.strings.length(data) == 0, lambda: nothing, lambda: self._decode(data))

    def _decode(self, data: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError


class ImageDecoder(Decoder):
    """JPEG and PNG files. TensorFlow's decoder takes GIF (one frame) and BMP too; the client does not promise these."""

    def _decode(self, data: tf.Tensor) -> tf.Tensor:
        is_jpeg = tf.strings.substr(data, 0, 3) == _JPEG
        pixels = tf.cond(is_jpeg, lambda: self._decode_jpeg(data), lambda: _decode_at(data, 1))
        return resize(pixels, self._height, self._width)

    def _decode_jpeg(self, data: tf.Tensor) -> tf.Tensor:
        """Decodes a large picture at a half, quarter or eighth: `duoserve.preprocessing.preprocessor.decode_ratio`."""
        shape = tf.io.extract_jpeg_shape(data)
        shorter = tf.minimum(shape[0], shape[1])
        longer = max(self._height, self._width)
        # The ratio is an attribute of the operation, not an input: one branch for each.
        branch = sum(tf.cast(shorter >= 2 * ratio * longer, tf.int32) for ratio in _RATIOS[1:])

        def decoded(ratio: int) -> Callable[[], tf.Tensor]:
            return lambda: _decode_at(data, ratio)

        pixels = tf.switch_case(branch, [decoded(ratio) for ratio in _RATIOS])
        return upright(pixels, orientation(data))


def _decode_at(data: tf.Tensor, ratio: int) -> tf.Tensor:
    # INTEGER_ACCURATE is what Pillow uses; TensorFlow's default is up to 8 levels off.
    return tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
