"""Recordings: the kind of file, the headers, and the first samples.

WAV is read here; FLAC and OGG (Vorbis, Opus) by soundfile, an optional part of the client.
"""

import io
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from duoserve.errors import InvalidInput
from duoserve.preprocessing.wav import EncodedAudio, check_format, inspect_wav, scaled, wav_samples

MOST_SAMPLES: Final = 57_600_000  # 10 minutes of stereo at 48 kHz: a model uses the first seconds of a recording
_UNKNOWN_LENGTH: Final = 1 << 62  # libsndfile's SF_COUNT_MAX and above

_OTHER_FORMATS: Final[tuple[tuple[int, bytes | tuple[bytes, ...], str], ...]] = (
    (0, (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"), "an MP3"),
    (0, (b"\xff\xf1", b"\xff\xf9"), "an AAC"),
    (4, b"ftyp", "an MP4 (M4A)"),
    (0, b"\x1aE\xdf\xa3", "a WebM or Matroska"),
    (0, b"FORM", "an AIFF"),
    (0, b".snd", "an AU"),
    (0, b"#!AMR", "an AMR"),
    (0, b"caff", "a CAF"),
    (0, b"RF64", "an RF64"),
    (0, b"RIFX", "a big-endian RIFF"),
    (0, b"MThd", "a MIDI"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG", "a PNG image"),
)


def inspect_audio(data: bytes) -> EncodedAudio:
    """The headers of an encoded recording. Raises InvalidInput: see `Preprocessor.audio`; or soundfile is missing."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        found = inspect_wav(data)
    elif data[:4] == b"fLaC":
        found = _inspect_by_library(data, "FLAC")
    elif data[:4] == b"OggS":
        _check_last_page(data)
        found = _inspect_by_library(data, "OGG")
    else:
        raise InvalidInput(f"Expected audio to be a WAV, FLAC or OGG. Received: {_other(data)}")
    check_length(found.frames, found.channels)
    return found


def check_length(frames: int, channels: int) -> None:
    """Refuses recordings that are too long for a model of clips."""
    if frames * channels > MOST_SAMPLES:
        raise InvalidInput(
            f"Expected audio of at most {MOST_SAMPLES} samples, 10 minutes of stereo at 48 kHz."
            f" Received: {frames * channels}"
        )


def decode_audio(audio: EncodedAudio, frames: int) -> npt.NDArray[np.float64]:
    """float64 array of shape (frames, channels), -1 to 1: the first samples, fewer if there are fewer.

    Nothing after them is decoded, so a small file with hours of silence is harmless. Raises InvalidInput for a
    recording that is broken, cut or not finite within them.
    """
    if audio.format == "WAV":
        return wav_samples(audio, frames)
    wanted = min(frames, audio.frames)
    try:
        with _open(audio.data, audio.format) as file:
            samples: npt.NDArray[np.float64] = file.read(wanted, dtype="float64", always_2d=True)
    except RuntimeError as error:  # soundfile's LibsndfileError is one
        raise _broken(audio.format, error) from error
    if len(samples) < wanted:
        raise InvalidInput(f"Expected audio to be a whole {audio.format}. Received: {len(samples)} of {wanted} frames")
    return scaled(samples)


def _inspect_by_library(data: bytes, kind: Literal["FLAC", "OGG"]) -> EncodedAudio:
    try:
        with _open(data, kind) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
    except RuntimeError as error:
        raise _broken(kind, error) from error
    check_format(rate, channels)
    if frames == 0:
        raise InvalidInput(f"Expected audio to have samples. Received: {kind} without any")
    if frames >= _UNKNOWN_LENGTH:
        raise InvalidInput(f"Expected audio with a length in its header. Received: {kind} written into a pipe")
    return EncodedAudio(data, kind, rate, channels, frames)


def _check_last_page(data: bytes) -> None:
    """OGG has no length, but marks its last page; libsndfile would read a cut file as a shorter one."""
    last = data.rfind(b"OggS")
    page = data[last : last + 27]
    segments = data[last + 27 : last + 27 + page[26]] if len(page) == 27 else b""
    if not segments or not page[5] & 4 or last + 27 + len(segments) + sum(segments) > len(data):
        raise InvalidInput("Expected audio to be a whole OGG. Received: one that is cut before its end")


def _broken(kind: str, error: RuntimeError) -> InvalidInput:
    return InvalidInput(f"Expected audio to be a whole {kind}. Received: {getattr(error, 'error_string', error)}")


def _open(data: bytes, kind: str) -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise InvalidInput(
            f"Expected the package soundfile, to read {kind} (pip install 'duoserve[audio]'; WAV needs none)."
            f" Received: {error}"
        ) from error
    return soundfile.SoundFile(io.BytesIO(data))


def _other(data: bytes) -> str:
    if not data:
        return "no bytes"
    for offset, magic, name in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            return name if name.endswith("image") else f"{name} (convert it to WAV, FLAC or OGG)"
    return f"{len(data)} bytes that start with {data[:8]!r}"
