"""The EXIF orientation, read and applied by graph operations. Twin: `duoserve.preprocessing.exif`.

Phones store an image as the sensor saw it and note in EXIF tag 0x0112 how to turn it. TensorFlow's
decoders ignore that tag.
"""

import tensorflow as tf

from duoserve.preprocessing.exif import EXIF_PREFIX
from export.graph.image_headers import File, little_endian

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_LITTLE = (0x49, 0x49, 0x2A, 0)
_BIG = (0x4D, 0x4D, 0, 0x2A)


def orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation that an EXIF block asks for: int32 scalar, 1 to 8; 1 where there is none, or a broken one.

    Args:
        exif: string scalar.
    """
    for _ in range(2):
        begins = tf.strings.substr(exif, 0, len(EXIF_PREFIX)) == EXIF_PREFIX
        exif = tf.strings.substr(exif, tf.where(begins, len(EXIF_PREFIX), 0), tf.strings.length(exif))
    file = File(exif)
    magic = file.read(0, 4)
    is_little = tf.reduce_all(magic == _LITTLE)

    def number(octets: tf.Tensor) -> tf.Tensor:
        return little_endian(tf.where(is_little, octets, tf.reverse(octets, [-1])))

    directory = number(file.read(4, 4))
    known = (is_little | tf.reduce_all(magic == _BIG)) & (file.size >= 8)
    known &= (directory >= 0) & (directory <= file.size - 2)
    directory = tf.where(known, directory, 0)
    most = tf.maximum(file.size - directory - 2, 0) // 12
    count = tf.where(known, tf.minimum(number(file.read(directory, 2)), most), 0)
    entries = tf.io.decode_raw(file.slice(directory + 2, 12 * count), tf.uint8)
    entries = tf.cast(tf.reshape(entries, [-1, 12]), tf.int32)
    tagged = tf.boolean_mask(entries, number(entries[:, :2]) == _ORIENTATION_TAG)

    def value() -> tf.Tensor:
        entry = tagged[0]
        found = number(entry[8:10])
        is_valid = (number(entry[2:4]) == _SHORT) & (number(entry[4:8]) == 1) & (found >= 1) & (found <= 8)
        return tf.where(is_valid, found, 1)

    return tf.cond(tf.size(tagged) > 0, value, lambda: tf.constant(1))


def upright(pixels: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Turns a decoded image as its EXIF block asks for.

    Args:
        pixels: uint8 array of shape (height, width, 3), RGB, as stored in the file.
        exif: string scalar, empty where there is none.
    """

    def transposed() -> tf.Tensor:
        return tf.transpose(pixels, [1, 0, 2])

    turn = tf.cond(tf.strings.length(exif) > 0, lambda: orientation(exif), lambda: tf.constant(1))
    moves = [
        lambda: pixels,
        lambda: tf.reverse(pixels, [1]),
        lambda: tf.reverse(pixels, [0, 1]),
        lambda: tf.reverse(pixels, [0]),
        transposed,
        lambda: tf.reverse(transposed(), [1]),
        lambda: tf.reverse(transposed(), [0, 1]),
        lambda: tf.reverse(transposed(), [0]),
    ]
    return tf.switch_case(turn - 1, moves)
