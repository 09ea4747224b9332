"""`duoserve.preprocessing.resampling` as graph operations: the same filter, tap by tap."""

import math

import tensorflow as tf

from duoserve.preprocessing.resampling import ROLL_OFF, ZERO_CROSSINGS


class Resampler:
    """From the rate of a recording to that of a model, for clips of one length."""

    def __init__(self, source: tf.Tensor, target: int, length: int) -> None:
        """Takes the rates.

        Args:
            source: int64 scalar, samples a second.
            target: Samples a second.
            length: Samples of the result.
        """
        self._source, self._target, self._length = source, target, length
        self._cutoff = ROLL_OFF * tf.minimum(target / tf.cast(source, tf.float64), 1.0)
        self._reach = tf.cast(tf.math.ceil(ZERO_CROSSINGS / self._cutoff), tf.int64)
        self._is_same = source == target
        most = (length - 1) * source // target + self._reach + 1
        self.frames = tf.where(self._is_same, tf.constant(length, tf.int64), most)
        """int64 scalar: samples of the recording that the result needs."""

    def __call__(self, samples: tf.Tensor) -> tf.Tensor:
        """float64 array of shape (length,): the beginning at the other rate, then silence.

        Args:
            samples: float64 array of shape (at most frames,).
        """
        result = tf.cond(self._is_same, lambda: _padded(samples, 0, self.frames), lambda: self._resample(samples))
        return tf.ensure_shape(result, [self._length])

    def _resample(self, samples: tf.Tensor) -> tf.Tensor:
        reach, cutoff = self._reach, self._cutoff
        common = _common_divisor(self._source, tf.constant(self._target, tf.int64))
        up, down = self._target // common, self._source // common
        padded = _padded(samples, reach - 1, self.frames + 2 * reach - 1)
        position = tf.range(self._length, dtype=tf.int64)
        first = position * down // up
        # Every `up`-th sample has the same position between two of the recording, so these share their weights.
        phase = tf.range(tf.minimum(up, self._length))
        fraction = tf.cast(phase * down % up, tf.float64) / tf.cast(up, tf.float64)
        row = position % tf.size(phase, tf.int64)

        # A loop over the taps needs the memory of the result only.
        def add(tap: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            weights = _kernel(cutoff * (fraction - tf.cast(tap, tf.float64))) * cutoff
            return tap + 1, total + tf.gather(padded, first + (reach - 1 + tap)) * tf.gather(weights, row)

        begin = 1 - reach, tf.zeros([self._length], tf.float64)
        _, total = tf.while_loop(lambda tap, _: tap <= reach, add, begin, parallel_iterations=1)
        return total


def _padded(samples: tf.Tensor, before: tf.Tensor | int, length: tf.Tensor) -> tf.Tensor:
    after = length - before - tf.size(samples, tf.int64)
    return tf.pad(samples, [[before, after]])


def _kernel(time: tf.Tensor) -> tf.Tensor:
    angle = math.pi * tf.where(time == 0.0, tf.constant(1e-20, tf.float64), time)
    window = 0.5 + 0.5 * tf.cos(math.pi / ZERO_CROSSINGS * time)
    return tf.where(tf.abs(time) < ZERO_CROSSINGS, tf.sin(angle) / angle * window, tf.zeros([], tf.float64))


def _common_divisor(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda _, b: b > 0, lambda a, b: (b, a % b), (one, other))[0]
