"""Clips inside the graph, for the `serving_bytes` signature of a model that takes audio.

The twin of `duoserve.audio`: the same samples, the same spectrogram, in float64 throughout, with
constants that come from there. Whoever changes one changes both; the gate and
`tests/export/test_audio_parity.py` compare them.
"""

from __future__ import annotations

import tensorflow as tf

from duoserve.audio import Spectrogram
from duoserve.contract import PreprocessingSpec
from export._resampling import Resampler
from export._wav import Wav

__all__ = ["AudioDecoder"]


class AudioDecoder:
    """Encoded recordings to spectrograms of the size that the spec names."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        assert spec.audio is not None
        self._audio = spec.audio
        self._spectrogram = Spectrogram(spec.audio, spec.image_height, spec.image_width)

    def __call__(self, audio_bytes: tf.Tensor) -> tf.Tensor:
        """uint8 array of shape (batch, bands, frames, 3), grey.

        Args:
            audio_bytes: string array of shape (batch,), WAV files. There is no operation in
                TensorFlow that reads FLAC or OGG: the client sends those as tensors.
        """
        shape = tf.TensorSpec([self._spectrogram.bands, self._spectrogram.frames, 3], tf.uint8)
        return tf.map_fn(self._decode, audio_bytes, fn_output_signature=shape)

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
        return tf.repeat(tf.transpose(grey)[:, :, None], 3, axis=2)
