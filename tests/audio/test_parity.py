"""The graph of a model of clips makes the same image as the client, and refuses the same files."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from duoserve import InvalidInput
from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.audio import encode_wav
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.preprocessing.wav import CODINGS
from export.graph.audio import AudioDecoder
from tests.audio.conftest import melody, packed
from tests.audio.wav_files import wav_file

RATES = st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000]) | st.integers(4000, 192_000)


@pytest.fixture(scope="module")
def decode(spec: PreprocessingSpec):
    return tf.function(AudioDecoder(spec), input_signature=[tf.TensorSpec([None], tf.string)])


@settings(max_examples=60, deadline=None)
@given(
    rate=RATES,
    seconds=st.floats(0.0, 1.2),
    channels=st.integers(1, 8),
    coding=st.sampled_from(sorted(CODINGS.values())),
    extensible=st.booleans(),
    before=st.lists(st.tuples(st.sampled_from([b"LIST", b"fact"]), st.binary(max_size=9)), max_size=2),
    size=st.sampled_from([None, 0x7FFFF000, 0xFFFFFFFF]),
    seed=st.integers(0, 99),
)
def test_images_of_any_wav_are_the_same(
    spec, decode, rate, seconds, channels, coding, extensible, before, size, seed
) -> None:
    samples = melody(rate, max(seconds, 1 / rate), channels, seed)
    data = wav_file(samples, rate, coding, extensible=extensible, before=before, size=size)
    ours, theirs = Preprocessor(spec).audio(data), decode([data]).numpy()[0]
    assert np.abs(ours.astype(int) - theirs).max() <= 1  # the promise
    np.testing.assert_array_equal(ours, theirs)  # what is seen: sums in another order did not once matter


def test_flac_and_ogg_become_a_wav_with_the_same_image(spec, decode) -> None:
    for kind in ("FLAC", "OGG"):
        data = encode_wav(packed(melody(44_100, 0.5, 2), 44_100, kind))
        np.testing.assert_array_equal(Preprocessor(spec).audio(data), decode([data]).numpy()[0])


@pytest.mark.parametrize("after", [b"", b"fact\x04\0\0\0\x01\0\0\0"])
def test_a_chunk_of_odd_length_without_its_pad_byte(spec, decode, after: bytes) -> None:
    """Some writers forget it; the sizes that they write show where the next chunk begins."""
    whole = wav_file(melody(16_000, 0.2, 1), 16_000, "int16", before=[(b"LIST", b"odd")])
    padded = b"LIST\x03\0\0\0odd\0"
    assert padded in whole
    data = whole.replace(padded, padded[:-1] + after)
    np.testing.assert_array_equal(Preprocessor(spec).audio(data), Preprocessor(spec).audio(whole))
    np.testing.assert_array_equal(decode([data]).numpy()[0], Preprocessor(spec).audio(whole))


@pytest.mark.parametrize("samples", [np.zeros((500, 1)), np.full((500, 1), 1e-30), np.full((500, 2), 1e9)])
def test_silence_and_excess_are_drawn_alike(spec, decode, samples: np.ndarray) -> None:
    data = wav_file(samples, 16_000, "float64")
    np.testing.assert_array_equal(Preprocessor(spec).audio(data), decode([data]).numpy()[0])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_graph_refuses_what_the_client_refuses(spec, decode, data) -> None:
    coding = data.draw(st.sampled_from(["int16", "int24", "float32"]))
    extensible = data.draw(st.booleans())
    whole = wav_file(melody(16_000, 0.002, 2), 16_000, coding, extensible=extensible, before=[(b"LIST", b"odd")])
    damaged = bytearray(whole)
    for position in data.draw(st.lists(st.integers(0, 90), max_size=3)):
        damaged[position] = data.draw(st.sampled_from([0, 1, 2, 3, 8, 16, 0x7F, 0xFE, 0xFF]))
    if data.draw(st.booleans()):
        struct.pack_into("<I", damaged, 24, data.draw(st.integers(0, 200_000)))
    cut = bytes(damaged[: data.draw(st.integers(len(whole) - 60, len(whole)) | st.integers(0, len(whole)))])
    try:
        expected = Preprocessor(spec).audio(cut)
    except InvalidInput:
        with pytest.raises(tf.errors.InvalidArgumentError, match="Expected audio_bytes"):
            decode([cut])
    else:
        np.testing.assert_array_equal(decode([cut]).numpy()[0], expected)
