"""The image of a clip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duoserve import AudioSpec, Clip
from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.preprocessing.resampling import Rates, resample
from tests.audio.conftest import melody


def tone(hertz: float, rate: int, seconds: float = 0.7) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("band", [1, 8, 13])
def test_a_tone_is_a_line_in_its_row_at_any_rate(spec: PreprocessingSpec, rate: int, band: int) -> None:
    hertz = spec.audio.band_edges(spec.image_height)[band + 1]
    image = Preprocessor(spec).audio(Clip(tone(hertz, rate), rate))
    assert image.shape == (20, 30, 3) and (image[..., :1] == image).all()
    assert set(image[:, 2:-2, 0].argmax(axis=0)) == {spec.image_height - 1 - band}
    assert image.max() == 255
    far = np.delete(image[:, 2:-2, 0], range(17 - band, min(22 - band, 20)), axis=0)
    assert far.max() < 60  # more than 60 dB below


def test_loudness_does_not_count_but_silence_is_black(spec: PreprocessingSpec) -> None:
    preprocessor = Preprocessor(spec)
    loud = preprocessor.audio(Clip(melody(), 16_000))
    np.testing.assert_array_equal(preprocessor.audio(Clip(melody() / 4, 16_000)), loud)
    assert not preprocessor.audio(Clip(np.zeros(8000), 16_000)).any()
    hiss = np.random.default_rng(0).integers(-1, 2, 8000).astype(np.int16)
    assert preprocessor.audio(Clip(hiss, 16_000)).max() < 200  # the last bit alone is no loud sound


def test_short_clips_are_padded_with_silence_and_long_ones_cut(spec: PreprocessingSpec) -> None:
    preprocessor = Preprocessor(spec)
    length = spec.audio.clip_samples(spec.image_width)
    long = melody(seconds=1.0)
    cut = preprocessor.audio(Clip(long[:length], 16_000))
    np.testing.assert_array_equal(preprocessor.audio(Clip(long, 16_000)), cut)
    short = preprocessor.audio(Clip(long[: length // 2], 16_000))
    assert not short[:, 17:].any() and short[:, :13].any(axis=0).all()


@settings(max_examples=60, deadline=None)
@given(source=st.integers(4000, 96_000), target=st.integers(4000, 96_000), share=st.floats(0.02, 0.8))
def test_resampling_keeps_a_tone_below_the_cut_off(source: int, target: int, share: float) -> None:
    hertz = share * min(source, target) / 2
    found = resample(tone(hertz, source), Rates(source, target), round(0.3 * target))
    expected = tone(hertz, target)[: len(found)]
    edge = round(32 * target / min(source, target))  # there the filter reaches beyond the beginning
    np.testing.assert_allclose(found[edge:-edge], expected[edge:-edge], atol=5e-3)


@pytest.mark.parametrize("source", [44_100, 48_000, 96_000])
def test_resampling_drops_what_the_lower_rate_can_not_hold(source: int) -> None:
    found = resample(tone(11_000, source), Rates(source, 16_000), 8000)
    assert np.abs(found[200:-200]).max() < 1e-3


def test_another_range_or_rate_is_another_image(spec: PreprocessingSpec) -> None:
    images = [
        Preprocessor(dataclasses.replace(spec, audio=audio)).audio(Clip(melody(), 16_000)).tobytes()
        for audio in (
            AudioSpec(),
            AudioSpec(range_db=60),
            AudioSpec(sample_rate=8000, window=320, hop=160, high_hz=3800),
        )
    ]
    assert len(set(images)) == 3
