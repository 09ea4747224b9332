"""WAV files read by graph operations: the rules of `duoserve.preprocessing.wav`, whose constants they take.

`tf.audio.decode_wav` reads only 16-bit integers, no WAVE_FORMAT_EXTENSIBLE, and fails after a chunk of
odd length; half of the recordings that the client accepts would fail.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from duoserve.preprocessing.wav import (
    CHUNKS,
    CODINGS,
    GUID_TAIL,
    LARGEST_SAMPLE,
    MOST_CHANNELS,
    SAMPLE_RATES,
    UNKNOWN_SIZE,
)
from export.graph.image_headers import check

_FORMAT = int.from_bytes(b"fmt ", "little")
_DATA = int.from_bytes(b"data", "little")
_EXTENSIBLE = 0xFFFE

Number = Callable[[tf.Tensor, int], tf.Tensor]
"""The unsigned little-endian number of this many bytes at a position."""


class Wav:
    """The headers of one WAV file, checked.

    Attributes:
        sample_rate: int64 scalar.
        frames: int64 scalar, at least 1.
    """

    def __init__(self, data: tf.Tensor) -> None:
        """Reads the headers.

        Args:
            data: string scalar. The graph fails (INVALID_ARGUMENT) where `inspect_wav` refuses it.
        """
        number, length = _numbers(data)
        is_wav = (tf.strings.substr(data, 0, 4) == b"RIFF") & (number(8, 4) == int.from_bytes(b"WAVE", "little"))
        layout, layout_size, start, size = _chunks(number, length)
        guid = tf.strings.substr(data, tf.minimum(layout + 26, length), 14)
        is_extensible = (number(layout, 2) == _EXTENSIBLE) & (layout_size >= 40) & (guid == GUID_TAIL)
        tag = tf.where(is_extensible, number(layout + 24, 2), number(layout, 2))
        channels, rate, block, bits = (number(layout + at, width) for at, width in ((2, 2), (4, 4), (12, 2), (14, 2)))
        same = [(tag == known_tag) & (bits == known_bits) for known_tag, known_bits in CODINGS]
        left = length - start
        size = tf.where(size >= UNKNOWN_SIZE, tf.minimum(size, left), size)
        low, high = SAMPLE_RATES
        errors = {
            "to be a whole WAV, format before samples": ~is_wav | (start < 0) | (layout_size < 16),
            "to be a WAV of 8, 16, 24 or 32-bit integers or 32 or 64-bit floats": ~tf.reduce_any(same),
            f"of {low} to {high} samples a second": (rate < low) | (rate > high),
            f"of 1 to {MOST_CHANNELS} channels": (channels < 1) | (channels > MOST_CHANNELS),
            "with as many bytes a frame as its channels have": block != channels * bits // 8,
            "to be a whole WAV, with samples": (size > left) | (size < block),
        }
        with tf.control_dependencies([_check(errors)]):
            self.sample_rate = tf.identity(rate)
            self.frames = size // tf.maximum(block, 1)
        self._data, self._start, self._block, self._channels = data, start, block, channels
        self._coding = tf.argmax(same, output_type=tf.int32)

    def mono(self, frames: tf.Tensor) -> tf.Tensor:
        """float64 array of shape (at most frames,): the mean of the channels, -1 to 1.

        Args:
            frames: int64 scalar, how many are wanted.
        """
        count = tf.minimum(frames, self.frames) * self._block
        data = tf.strings.substr(self._data, tf.cast(self._start, tf.int64), tf.cast(count, tf.int64))

        def decoded(coding: str) -> Callable[[], tf.Tensor]:
            return lambda: _decode(data, coding)

        numbers = tf.switch_case(self._coding, [decoded(coding) for coding in CODINGS.values()])
        channels = tf.cast(self._channels, tf.int32)
        numbers = tf.reshape(numbers, tf.stack([-1, channels]))
        finite = tf.reduce_all(tf.abs(numbers) <= LARGEST_SAMPLE)  # false for NaN
        with tf.control_dependencies([_check({f"of finite numbers up to {LARGEST_SAMPLE:.0f}": ~finite})]):
            return tf.reduce_sum(numbers, axis=1) / tf.cast(channels, tf.float64)


def _numbers(data: tf.Tensor) -> tuple[Number, tf.Tensor]:
    """How to read numbers of a file, zeros beyond its end, and its length."""
    octets = tf.io.decode_raw(data, tf.uint8)
    length = tf.size(octets, tf.int64)
    padded = tf.concat([octets, [tf.constant(0, tf.uint8)]], 0)

    def number(at: tf.Tensor | int, width: int) -> tf.Tensor:
        places = tf.cast(at, tf.int64) + tf.range(width, dtype=tf.int64)
        places = tf.where((places >= 0) & (places < length), places, length)
        return tf.reduce_sum(tf.cast(tf.gather(padded, places), tf.int64) * [256**place for place in range(width)])

    return number, length


def _chunks(number: Number, length: tf.Tensor) -> list[tf.Tensor]:
    """Start and size of the format chunk and of the samples; -1 where there are none."""

    def more(at: tf.Tensor, _: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
        return (samples[0] < 0) & (at + 8 <= length)

    def step(at: tf.Tensor, layout: tf.Tensor, samples: tf.Tensor) -> tuple[tf.Tensor, ...]:
        name, size = number(at, 4), number(at + 4, 4)
        here = tf.stack([at + 8, size])
        end = at + 8 + size
        is_unpadded = tf.reduce_any(number(end, 4) == [int.from_bytes(known, "little") for known in CHUNKS])
        end += tf.where(is_unpadded, tf.zeros_like(size), size % 2)
        return end, tf.where(name == _FORMAT, here, layout), tf.where(name == _DATA, here, samples)

    none = tf.constant([-1, -1], tf.int64)
    _, layout, samples = tf.while_loop(more, step, (tf.constant(12, tf.int64), none, none))
    return [*tf.unstack(layout), *tf.unstack(samples)]


def _decode(data: tf.Tensor, coding: str) -> tf.Tensor:
    """float64 array of shape (any,), -1 to 1; floats unchanged."""
    if coding.startswith("float"):
        return tf.cast(tf.io.decode_raw(data, coding), tf.float64)
    bits = int(coding.removeprefix("u").removeprefix("int"))
    if coding == "int24":
        parts = tf.cast(tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, 3]), tf.float64)
        top = parts[:, 2]
        numbers = parts[:, 0] + 256.0 * parts[:, 1] + 65536.0 * tf.where(top < 128, top, top - 256)
    else:
        numbers = tf.cast(tf.io.decode_raw(data, coding), tf.float64) - (128.0 if bits == 8 else 0.0)
    return numbers / float(1 << (bits - 1))


def _check(errors: Mapping[str, tf.Tensor]) -> tf.Operation:
    return check({f"Expected audio_bytes {what}. Received: another file": error for what, error in errors.items()})
