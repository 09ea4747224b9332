"""WAV files: their headers, their samples, and how to write one. Twin: `export/graph/wav.py`."""

import dataclasses
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from duoserve.errors import InvalidInput

MOST_CHANNELS: Final = 8
SAMPLE_RATES: Final = (4000, 192_000)  # lowest and highest, in Hz

LARGEST_SAMPLE: Final = float(1 << 31)
"""Of floats, which should be from -1 to 1, but are 16 or 32-bit numbers in some files. The level is relative."""

UNKNOWN_SIZE: Final = 0x7FFF_0000
"""A writer into a pipe can't know the size of its data, and writes this or more: then the data go to the end."""

CODINGS: Final[Mapping[tuple[int, int], str]] = MappingProxyType(
    {(1, 8): "uint8", (1, 16): "int16", (1, 24): "int24", (1, 32): "int32", (3, 32): "float32", (3, 64): "float64"}
)
"""How samples are written, by format tag (1: integers, 3: floats) and bits."""

# What follows the format tag in the sub-format of WAVE_FORMAT_EXTENSIBLE.
GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")
CHUNKS: Final = (b"fmt ", b"data", b"fact", b"LIST")
"""Names that show where a chunk begins. A chunk of odd length is followed by a pad byte, but some writers forget it."""

_EXTENSIBLE: Final = 0xFFFE
_OTHER_TAGS: Final = MappingProxyType({2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM", 85: "MP3"})


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedAudio:
    """A file and its headers."""

    data: bytes = dataclasses.field(repr=False)
    format: Literal["WAV", "FLAC", "OGG"]
    sample_rate: int  # frames a second
    channels: int  # samples of a frame
    frames: int
    coding: str = ""  # of a WAV, how its samples are written: a value of CODINGS
    start: int = 0  # of a WAV, the position of the first sample


def inspect_wav(data: bytes) -> EncodedAudio:
    """The headers of a WAV file, which starts with "RIFF", any size, "WAVE"."""
    position, layout = 12, b""
    while position + 8 <= len(data):
        name, (size,) = data[position : position + 4], struct.unpack_from("<I", data, position + 4)
        position += 8
        if name == b"data":
            break
        if name == b"fmt ":
            layout = data[position : position + size]
        position += size
        if size % 2 and data[position : position + 4] not in CHUNKS:
            position += 1
    else:
        raise InvalidInput("Expected audio to be a whole WAV. Received: one without samples, or cut before them")
    if len(layout) < 16:
        raise InvalidInput("Expected audio to be a whole WAV. Received: one without a format chunk before its samples")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", layout)
    if tag == _EXTENSIBLE and layout[26:40] == GUID_TAIL:
        tag = struct.unpack_from("<H", layout, 24)[0]
    coding = CODINGS.get((tag, bits))
    if coding is None:
        kind = _OTHER_TAGS.get(tag, {1: "integers", 3: "floats"}.get(tag, f"format {tag:#06x}"))
        raise InvalidInput(
            "Expected audio to be a WAV of 8, 16, 24 or 32-bit integers or 32 or 64-bit floats."
            f" Received: a WAV of {bits}-bit {kind}"
        )
    check_format(rate, channels)
    frame = channels * bits // 8
    if block != frame:
        raise InvalidInput(
            f"Expected audio with {frame} bytes a frame, for {channels} x {bits} bits. Received: {block}"
        )
    left = len(data) - position
    if size >= UNKNOWN_SIZE:
        size = min(size, left)
    if size > left:
        raise InvalidInput(f"Expected audio to be a whole WAV of {size} bytes of samples. Received: {left} of them")
    if size < block:
        raise InvalidInput("Expected audio to have samples. Received: a WAV without any")
    return EncodedAudio(data, "WAV", rate, channels, size // block, coding, position)


def check_format(sample_rate: int, channels: int) -> None:
    """Refuses rates and numbers of channels out of range."""
    low, high = SAMPLE_RATES
    if not low <= sample_rate <= high:
        raise InvalidInput(f"Expected audio of {low} to {high} samples a second. Received: {sample_rate}")
    if not 1 <= channels <= MOST_CHANNELS:
        raise InvalidInput(f"Expected audio of 1 to {MOST_CHANNELS} channels. Received: {channels}")


def wav_samples(wav: EncodedAudio, frames: int) -> npt.NDArray[np.float64]:
    """See `duoserve.preprocessing.recordings.decode_audio`."""
    count = min(frames, wav.frames) * wav.channels
    if wav.coding == "int24":
        parts = np.frombuffer(wav.data, np.uint8, count * 3, wav.start).reshape(-1, 3).astype(np.int32)
        numbers: npt.NDArray[Any] = parts[:, 0] | parts[:, 1] << 8 | (parts[:, 2] ^ 128) - 128 << 16
    else:
        numbers = np.frombuffer(wav.data, np.dtype(wav.coding).newbyteorder("<"), count, wav.start)
    return scaled(numbers.reshape(-1, wav.channels), 24 if wav.coding == "int24" else None)


def scaled(numbers: npt.NDArray[Any], bits: int | None = None) -> npt.NDArray[np.float64]:
    """uint8 (with silence at 128), int16, int32, float32 or float64 as float64 from -1 to 1.

    `bits` is for integers that do not use their whole type. Raises InvalidInput for floats that are not finite.
    """
    if numbers.dtype.kind == "f":
        if not np.abs(numbers).max(initial=0) <= LARGEST_SAMPLE:  # also refuses NaN
            raise InvalidInput(f"Expected audio of finite numbers up to {LARGEST_SAMPLE:.0f}. Received: others")
        return numbers.astype(np.float64)
    offset = 128 if numbers.dtype == np.uint8 else 0
    return (numbers.astype(np.float64) - offset) / float(1 << ((bits or 8 * numbers.itemsize) - 1))


def write_wav(samples: npt.NDArray[np.float64], sample_rate: int) -> bytes:
    """A WAV of 16-bit integers, of a float64 array of shape (frames, channels), clipped to -1 to 1."""
    numbers = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    channels = samples.shape[1]
    layout = struct.pack("<HHIIHH", 1, channels, sample_rate, sample_rate * channels * 2, channels * 2, 16)
    body = b"WAVEfmt \x10\0\0\0" + layout + b"data" + struct.pack("<I", numbers.nbytes) + numbers.tobytes()
    return b"RIFF" + struct.pack("<I", len(body)) + body
