"""Training on clips: the size of their spectrograms, and held-out clips as samples."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from duoserve.contract import AudioSpec, PreprocessingSpec
from duoserve.preprocessing.audio import Clip, Spectrogram, encode_wav
from duoserve.preprocessing.recordings import decode_audio, inspect_audio
from duoserve.preprocessing.resampling import Rates

_MOST_BANDS: Final = 64
"""A 40 ms window resolves no more bands below 1 kHz."""


def spectrogram_size(paths: Iterable[Path], audio: AudioSpec, image_size: int) -> tuple[int, int]:
    """Bands and frames for recordings like these.

    Args:
        paths: WAV, FLAC and OGG files that were checked.
        audio: What a frame is.
        image_size: Upper limit of the bands, and half of the upper limit of the frames.

    Returns:
        As many frames as hold 99 % of the recordings, in steps of 8.
    """
    seconds = [facts.frames / facts.sample_rate for facts in (inspect_audio(path.read_bytes()) for path in paths)]
    samples = float(np.quantile(seconds, 0.99, method="higher")) * audio.sample_rate
    frames = 1 + (samples - audio.window) / audio.hop
    return min(image_size, _MOST_BANDS), min(max(int(np.ceil(frames / 8)) * 8, 32), 2 * image_size)


def golden_recording(data: bytes, spec: PreprocessingSpec) -> bytes:
    """The part of this recording that a model uses, as a WAV, which the graph can read."""
    assert spec.audio is not None
    facts = inspect_audio(data)
    length = Spectrogram(spec.audio, spec.image_height, spec.image_width).length
    heard = decode_audio(facts, Rates(facts.sample_rate, spec.audio.sample_rate).frames(length))
    return encode_wav(Clip(heard, facts.sample_rate))
