"""A clip as an image of its spectrum, which a model of clips sees, as in its own graph: within 1 of 255 levels.

Recordings are mixed to one channel, resampled, cut or padded with silence, and turned into a log-mel spectrogram,
in float64 throughout.
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import IO, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from duoserve.contract import AUDIO, AudioSpec
from duoserve.errors import InvalidInput
from duoserve.preprocessing.recordings import MOST_SAMPLES, check_length, decode_audio, inspect_audio
from duoserve.preprocessing.resampling import Rates, resample
from duoserve.preprocessing.sources import read_bytes
from duoserve.preprocessing.wav import EncodedAudio, check_format, scaled, write_wav

__all__ = ["MOST_SAMPLES", "AudioSource", "Clip", "Spectrogram", "encode_wav"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A recording, in place of an image: `predict(Clip("word.wav"), text)`, or in a row of a batch.

    Attributes:
        source: A path, the bytes of a WAV, FLAC or OGG, a file object, or an array of shape (frames,) or
            (frames, channels): float32 or float64 from -1 to 1, int16, int32, or uint8 with silence at 128.
        sample_rate: For an array: frames a second, 4,000 to 192,000. A file has its own.
    """

    source: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | npt.NDArray[Any] = dataclasses.field(
        repr=False
    )
    sample_rate: int | None = None

    def opened(self) -> Clip | EncodedAudio:
        """The headers of a file; an array stays a Clip, once it is checked."""
        samples, rate = self.source, self.sample_rate
        if not isinstance(samples, np.ndarray):
            if rate is not None:
                raise InvalidInput(f"Expected sample_rate for arrays alone. Received: {rate!r} for a file")
            return inspect_audio(read_bytes(samples, AUDIO, " or a Clip(samples, sample_rate)"))
        if samples.dtype.name not in _DTYPES or samples.ndim not in (1, 2):
            raise InvalidInput(
                "Expected samples of audio to be a float32, float64, int16, int32 or uint8 array of shape (frames,) or"
                f" (frames, channels). Received: {samples.dtype.name} array of shape {samples.shape}"
            )
        if not isinstance(rate, (int, np.integer)) or isinstance(rate, bool):
            raise InvalidInput(f"Expected sample_rate to be an integer. Received: {rate!r}")
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        check_format(int(rate), channels)
        check_length(len(samples), channels)
        if not len(samples):
            raise InvalidInput("Expected audio to have samples. Received: a Clip without any")
        return self


AudioSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Clip
"""A path, the bytes of a WAV, FLAC or OGG, a file object, or a Clip."""

_DTYPES: Final = ("uint8", "int16", "int32", "float32", "float64")
_QUIET: Final = 1e-6  # power of a tone at -60 dB: clips that stay below it are drawn darker


def as_clip(source: AudioSource) -> Clip:
    """The source as a Clip. Refuses an array, which has no rate."""
    if isinstance(source, np.ndarray):
        raise InvalidInput("Expected samples of audio with their rate, Clip(samples, sample_rate). Received: an array")
    return source if isinstance(source, Clip) else Clip(source)


class Spectrogram:
    """Computes the log-mel spectrograms of one AudioSpec. The graph takes its constants from here."""

    def __init__(self, spec: AudioSpec, bands: int, frames: int) -> None:
        self.spec = spec
        self.bands = bands  # rows of the image
        self.frames = frames  # columns of the image
        self.length = spec.clip_samples(frames)  # samples of a clip
        # A Hann window of shape (spec.window,), and filters of shape (fft_length // 2 + 1, bands), the highest first,
        # both float64. A tone from -1 to 1 in the middle of a band has power 1.
        self.window = 0.5 - 0.5 * np.cos(2 * np.pi / spec.window * np.arange(spec.window))
        self.filters = _filters(spec, bands) * (2 / self.window.sum()) ** 2
        self.least = 10 ** (-spec.range_db / 10)  # power that becomes black, as a share of the loudest
        self.levels = 255 * 10 / math.log(10) / spec.range_db  # of grey, for each unit of the natural logarithm
        self.quiet = _QUIET

    def image(self, recording: Clip | EncodedAudio) -> npt.NDArray[np.uint8]:
        """uint8 array of shape (bands, frames, 3) of what `Clip.opened` returned."""
        assert recording.sample_rate is not None
        rates = Rates(int(recording.sample_rate), self.spec.sample_rate)
        return self.draw(resample(_mono(_samples(recording, rates.frames(self.length))), rates, self.length))

    def draw(self, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """uint8 array of shape (bands, frames, 3), grey, of a float64 array of shape (length,) at the spec's rate."""
        parts = np.lib.stride_tricks.sliding_window_view(samples, self.spec.window)[:: self.spec.hop]
        transform = np.fft.rfft(parts * self.window, self.spec.fft_length)
        power = (transform.real**2 + transform.imag**2) @ self.filters
        share = np.maximum(power / max(power.max(), self.quiet), self.least)
        grey = np.floor(255.5 + self.levels * np.log(share)).astype(np.uint8)
        return np.repeat(grey.T[:, :, None], 3, axis=2)


def encode_wav(source: AudioSource, sample_rate: int | None = None) -> bytes:
    """A recording as a WAV of 16-bit integers, which the graph of every model of clips reads (`audio_bytes`).

    With a sample rate, it is mixed to one channel and resampled. Raises InvalidInput: see `Preprocessor.audio`.
    """
    recording = as_clip(source).opened()
    assert recording.sample_rate is not None
    rate, samples = int(recording.sample_rate), _samples(recording)
    if sample_rate is not None:
        check_format(sample_rate, 1)
        length = math.ceil(len(samples) * sample_rate / rate)
        samples, rate = resample(_mono(samples), Rates(rate, sample_rate), length)[:, None], sample_rate
    return write_wav(samples, rate)


def _samples(recording: Clip | EncodedAudio, frames: int = MOST_SAMPLES) -> npt.NDArray[np.float64]:
    """float64 array of shape (frames, channels), -1 to 1: the first samples, fewer if there are fewer."""
    if isinstance(recording, EncodedAudio):
        return decode_audio(recording, frames)
    samples = recording.source
    assert isinstance(samples, np.ndarray)
    return scaled(samples if samples.ndim == 2 else samples[:, None])[:frames]


def _mono(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mixed: npt.NDArray[np.float64] = samples.sum(axis=1) / samples.shape[1]
    return mixed


def _filters(spec: AudioSpec, bands: int) -> npt.NDArray[np.float64]:
    """float64 array of shape (fft_length // 2 + 1, bands): triangles of height 1, the highest band first."""
    edges = np.array(spec.band_edges(bands))
    hertz = np.arange(spec.fft_length // 2 + 1)[:, None] * (spec.sample_rate / spec.fft_length)
    begin, middle, end = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz - begin) / (middle - begin), (end - hertz) / (end - middle)
    return np.ascontiguousarray(np.maximum(0.0, np.minimum(rising, falling))[:, ::-1])
