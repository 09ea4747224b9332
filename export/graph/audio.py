"""Clips inside the graph, for the `serving_bytes` signature of a model that takes audio.

The twin of `duoserve.preprocessing.audio`: the same samples, the same spectrogram, in float64 throughout, with
constants that come from there. Change both together; the gate and
`tests/audio/test_parity.py` compare them.
"""

import tensorflow as tf

from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.audio import Spectrogram
from export.graph.images import Decoder
from export.graph.resampling import Resampler
from export.graph.wav import Wav


class AudioDecoder(Decoder):
    """WAV files to spectrograms. No operation of TensorFlow reads FLAC or OGG: the client sends those as tensors."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        super().__init__(spec)
        assert spec.audio is not None
        self._audio = spec.audio
        self._spectrogram = Spectrogram(spec.audio, spec.image_height, spec.image_width)

    def _decode(self, data: tf.Tensor) -> tf.Tensor:
        wav = Wav(data)
        resampler = Resampler(wav.sample_rate, self._audio.sample_rate, self._spectrogram.length)
        return self._draw(resampler(wav.mono(resampler.frames)))

    def _draw(self, samples: tf.Tensor) -> tf.Tensor:
        constants, audio = self._spectrogram, self._audio
        parts = tf.signal.frame(samples, audio.window, audio.hop)
        transform = tf.signal.rfft(parts * constants.window, [audio.fft_length])
        power = tf.matmul(tf.square(tf.math.real(transform)) + tf.square(tf.math.imag(transform)), constants.filters)
        share = tf.maximum(power / tf.maximum(tf.reduce_max(power), constants.quiet), constants.least)
        grey = tf.cast(tf.floor(255.5 + constants.levels * tf.math.log(share)), tf.uint8)
        rows = tf.ensure_shape(tf.transpose(grey), [self._height, self._width])
        return tf.repeat(rows[:, :, None], 3, axis=2)
