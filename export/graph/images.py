"""Images inside the graph, for the `serving_bytes` signature. Twin: `duoserve.preprocessing.images`.

The pixels are identical, and both refuse the same files (a damaged one with texts of their own): change both
together. The gate and `tests/export/test_image_parity.py` compare them.
"""

import tensorflow as tf

from duoserve.contract import IMAGE, PreprocessingSpec
from duoserve.preprocessing.image_headers import OTHER_FORMATS, Refused
from duoserve.preprocessing.jpeg import JPEG
from duoserve.preprocessing.png import PNG
from export.graph.exif import upright
from export.graph.image_headers import require
from export.graph.jpeg import decode_jpeg
from export.graph.png import decode_png
from export.graph.resize import resize
from export.graph.webp import decode_webp


class Decoder:
    """Files to rows of the `image` input, of the size that the spec names. Base of one for images and one for clips."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        self._height = spec.image_height
        self._width = spec.image_width
        self._optional = IMAGE in spec.optional

    def __call__(self, encoded: tf.Tensor) -> tf.Tensor:
        """uint8 array of shape (batch, height, width, 3), RGB, 0-255.

        Args:
            encoded: string array of shape (batch,), files. No bytes are a missing image (zeros)
                if the spec has it as optional; otherwise they fail.
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
    """JPEG, PNG and WebP files. The graph fails (INVALID_ARGUMENT) where the client refuses a file."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        super().__init__(spec)
        self._background = spec.background

    def _decode(self, data: tf.Tensor) -> tf.Tensor:
        is_webp = (tf.strings.substr(data, 0, 4) == b"RIFF") & (_from(data, 8, 4) == b"WEBP")
        known = [tf.strings.substr(data, 0, 3) == JPEG, tf.strings.substr(data, 0, 8) == PNG, is_webp, True]
        pixels, exif = tf.switch_case(
            tf.argmax(tf.cast(tf.stack(known), tf.int32), output_type=tf.int32),
            [
                lambda: decode_jpeg(data, self._height, self._width),
                lambda: decode_png(data, self._background),
                lambda: decode_webp(data, self._background),
                lambda: _refuse(data),
            ],
        )
        return resize(upright(pixels, exif), self._height, self._width)


def _from(data: tf.Tensor, offset: int, length: int) -> tf.Tensor:
    """Bytes at an offset, fewer where the file ends."""
    return tf.strings.substr(data, tf.minimum(offset, tf.strings.length(data)), length)


def _refuse(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Fails with the name of the format."""
    name = tf.where(tf.strings.length(data) == 0, "no bytes", "no known image format")
    for offset, magic, kind in OTHER_FORMATS:
        name = tf.where(_from(data, offset, len(magic)) == magic, kind + Refused.HINT, name)
    with tf.control_dependencies([require(False, Refused.FORMAT + name)]):
        return tf.zeros([1, 1, 3], tf.uint8), tf.constant(b"")
