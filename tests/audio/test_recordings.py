"""Recordings: each kind of file gives its samples, and each broken one is refused with a clear error."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duoserve import Clip, InvalidInput
from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.audio import encode_wav
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.preprocessing.recordings import MOST_SAMPLES, decode_audio, inspect_audio
from duoserve.preprocessing.wav import CODINGS, inspect_wav
from tests.audio.conftest import melody, packed, wav
from tests.audio.wav_files import wav_file

STEPS = {"uint8": 2**-7, "int16": 2**-15, "int24": 2**-23, "int32": 2**-31, "float32": 2**-24, "float64": 0.0}


@settings(max_examples=300, deadline=None)
@given(
    coding=st.sampled_from(sorted(CODINGS.values())),
    rate=st.integers(4000, 192_000),
    channels=st.integers(1, 8),
    frames=st.integers(1, 50),
    extensible=st.booleans(),
    before=st.lists(st.tuples(st.sampled_from([b"LIST", b"fact", b"bext"]), st.binary(max_size=9)), max_size=3),
    unknown=st.sampled_from([None, 0x7FFFF000, 0xFFFFFFFF]),
    data=st.data(),
)
def test_every_kind_of_wav_gives_its_samples(coding, rate, channels, frames, extensible, before, unknown, data) -> None:
    samples = np.random.default_rng(data.draw(st.integers(0, 99))).uniform(-1, 1, (frames, channels))
    written = wav_file(samples, rate, coding, extensible=extensible, before=before, size=unknown)
    facts = inspect_wav(written)
    assert (facts.sample_rate, facts.channels, facts.coding) == (rate, channels, coding)
    found = decode_audio(facts, data.draw(st.integers(1, 60)))
    assert len(found) > 0
    np.testing.assert_allclose(found, samples[: len(found)], atol=STEPS[coding], rtol=0)


@pytest.mark.parametrize(("kind", "subtype", "near"), [("FLAC", "PCM_16", 2**-15), ("FLAC", "PCM_24", 2**-23)])
def test_flac_is_lossless(kind: str, subtype: str, near: float) -> None:
    samples = melody(22_050, 0.3, channels=2)
    data = packed(samples, 22_050, kind, subtype)
    facts = inspect_audio(data)
    assert (facts.format, facts.sample_rate, facts.channels, facts.frames) == (kind, 22_050, 2, len(samples))
    np.testing.assert_allclose(decode_audio(facts, 999_999), samples, atol=near, rtol=0)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_sounds_the_same(spec: PreprocessingSpec, subtype: str) -> None:
    samples = melody(16_000, 0.6)
    preprocessor = Preprocessor(spec)
    ours = preprocessor.audio(packed(samples, 16_000, "OGG", subtype)).astype(int)
    loud = (exact := preprocessor.audio(Clip(samples, 16_000)).astype(int)) > 100
    assert np.abs(ours - exact)[loud].mean() < 8


def test_every_source_gives_the_same_image(spec: PreprocessingSpec, tmp_path: Path) -> None:
    samples = np.rint(melody() * 32768).astype(np.int16)
    data = wav_file(samples / 32768, 16_000, "int16")
    path = tmp_path / "word.wav"
    path.write_bytes(data)
    sources = [
        path,
        str(path),
        data,
        bytearray(data),
        io.BytesIO(data),
        path.open("rb"),
        packed(samples, 16_000, "FLAC"),
        Clip(data),
        Clip(samples, 16_000),
        Clip(samples[:, 0] / np.float32(32768), 16_000),
        Clip(samples.astype(np.int32) << 16, 16_000),
        Clip(np.repeat(samples, 2, axis=1) / 32768, 16_000),
    ]
    preprocessor = Preprocessor(spec)
    images = [preprocessor.audio(source) for source in sources]
    sources[5].close()
    for image in images:
        np.testing.assert_array_equal(image, images[0])


def edited(position: int, code: str, value: int) -> bytes:
    data = bytearray(wav())
    struct.pack_into("<" + code, data, position, value)
    return bytes(data)


OGG = packed(melody(), 16_000, "OGG", "OPUS")
FLAC = packed(melody(), 16_000, "FLAC")
BAD = {
    "nothing": (b"", "Expected audio to be a WAV, FLAC or OGG. Received: no bytes"),
    "junk": (b"hello there", "Received: 11 bytes that start with b'hello th'"),
    "mp3": (b"ID3\4" + bytes(99), "Received: an MP3 (convert it to WAV, FLAC or OGG)"),
    "mp4": (b"\0\0\0\x20ftypM4A " + bytes(99), "Received: an MP4 (M4A)"),
    "image": (b"\x89PNG\r\n\x1a\n", "Received: a PNG image"),
    "cut samples": (wav()[:-1], "Expected audio to be a whole WAV of 19200 bytes of samples. Received: 19199 of them"),
    "cut header": (wav()[:40], "Expected audio to be a whole WAV. Received: one without samples, or cut before them"),
    "no format": (b"RIFF\x0c\0\0\0WAVEdata\0\0\0\0", "Received: one without a format chunk before its samples"),
    "no samples": (wav_file(np.zeros((0, 1)), 16_000, "int16"), "Expected audio to have samples. Received: a WAV"),
    "mu-law": (edited(20, "H", 7), "Received: a WAV of 16-bit mu-law"),
    "12 bits": (edited(34, "H", 12), "Received: a WAV of 12-bit integers"),
    "rate 0": (edited(24, "I", 0), "Expected audio of 4000 to 192000 samples a second. Received: 0"),
    "rate": (edited(24, "I", 4_000_000_000), "samples a second. Received: 4000000000"),
    "channels 0": (edited(22, "H", 0), "Expected audio of 1 to 8 channels. Received: 0"),
    "channels": (wav_file(np.zeros((9, 9)), 16_000, "int16"), "Expected audio of 1 to 8 channels. Received: 9"),
    "block": (edited(32, "H", 3), "Expected audio with 2 bytes a frame, for 1 x 16 bits. Received: 3"),
    "not a number": (wav_file(np.array([[0.1], [np.nan]]), 16_000, "float32"), "Expected audio of finite numbers"),
    "infinity": (wav_file(np.array([[0.1], [np.inf]]), 16_000, "float64"), "Expected audio of finite numbers"),
    "too long flac": (
        FLAC[:21] + bytes([FLAC[21] & 0xF0]) + (MOST_SAMPLES + 1).to_bytes(4, "big") + FLAC[26:],
        "Expected audio of at most 57600000 samples, 10 minutes of stereo at 48 kHz. Received: 57600001",
    ),
    "cut flac": (FLAC[: len(FLAC) // 2], "Expected audio to be a whole FLAC. Received:"),
    "cut flac header": (FLAC[:20], "Expected audio to be a whole FLAC. Received:"),
    "flac from a pipe": (FLAC[:21] + bytes([FLAC[21] & 0xF0, 0, 0, 0, 0]) + FLAC[26:], "written into a pipe"),
    "cut ogg": (OGG[:-10], "Expected audio to be a whole OGG. Received: one that is cut before its end"),
    "half an ogg": (OGG[: len(OGG) // 2], "Expected audio to be a whole OGG. Received: one that is cut before its end"),
    "only a page": (OGG[:30], "Expected audio to be a whole OGG. Received: one that is cut before its end"),
    "no vorbis": (OGG[:28] + b"?" * 20 + OGG[48:], "Expected audio to be a whole OGG. Received:"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_incomplete_recording_is_refused(spec: PreprocessingSpec, name: str) -> None:
    data, said = BAD[name]
    with pytest.raises(InvalidInput) as caught:
        Preprocessor(spec).audio(data)
    assert said in str(caught.value)


def test_a_wav_that_is_too_long_is_refused(spec: PreprocessingSpec) -> None:
    data = edited(40, "I", MOST_SAMPLES * 2 + 2)[:44] + bytes(MOST_SAMPLES * 2 + 2)
    with pytest.raises(InvalidInput, match="Expected audio of at most 57600000 samples"):
        Preprocessor(spec).audio(data)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (melody(), "Expected samples of audio with their rate, Clip(samples, sample_rate). Received: an array"),
        (Clip(melody()), "Expected sample_rate to be an integer. Received: None"),
        (Clip(melody(), 16e3), "Expected sample_rate to be an integer. Received: 16000.0"),
        (Clip(melody(), 100), "Expected audio of 4000 to 192000 samples a second. Received: 100"),
        (Clip(melody().astype(np.float16), 16_000), "Received: float16 array of shape (9600, 1)"),
        (Clip(melody()[None], 16_000), "Received: float64 array of shape (1, 9600, 1)"),
        (Clip(melody()[:0], 16_000), "Expected audio to have samples. Received: a Clip without any"),
        (Clip(melody() * np.nan, 16_000), "Expected audio of finite numbers"),
        (Clip(melody(channels=9), 16_000), "Expected audio of 1 to 8 channels. Received: 9"),
        (Clip(wav(), 16_000), "Expected sample_rate for arrays alone. Received: 16000 for a file"),
        ("missing.wav", "Expected audio to be a readable file. Received: [Errno 2]"),
        (io.StringIO("text"), "Expected audio file to be opened in binary mode. Received: one that reads str"),
        (7, "Expected audio to be a path, bytes, a file object or a Clip(samples, sample_rate). Received: int"),
    ],
)
def test_an_invalid_source_is_refused(spec: PreprocessingSpec, source: object, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Preprocessor(spec).audio(source)
    assert said in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_read_but_never_worse(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([wav(seconds=0.01), FLAC, OGG]))
    damaged = bytearray(whole)
    for position in data.draw(st.lists(st.integers(0, min(len(whole), 200) - 1), max_size=5)):
        damaged[position] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(whole)))])
    try:
        samples = decode_audio(inspect_audio(cut), 20_000)
    except InvalidInput:
        return
    assert samples.ndim == 2 and 0 < len(samples) <= 20_000 and np.isfinite(samples).all()


def test_without_soundfile_wav_works_and_flac_names_the_extra(
    spec: PreprocessingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    preprocessor = Preprocessor(spec)
    assert preprocessor.audio(wav()).any()
    with pytest.raises(
        InvalidInput, match=r"Expected the package soundfile, to read FLAC \(pip install 'duoserve\[audio\]'"
    ):
        preprocessor.audio(FLAC)


def test_any_recording_can_be_written_as_a_wav_for_the_graph() -> None:
    samples = melody(44_100, 0.2, channels=2)
    same = encode_wav(packed(samples, 44_100, "FLAC"))
    np.testing.assert_allclose(decode_audio(inspect_wav(same), 9999), samples, atol=2**-15)
    facts = inspect_wav(encode_wav(Clip(samples, 44_100), 16_000))
    assert (facts.channels, facts.sample_rate, facts.frames, facts.coding) == (1, 16_000, 3200, "int16")
