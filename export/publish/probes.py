"""Inputs that preprocessing is most likely to get wrong: the gate compares client and graph on them."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from duoserve.contract import IMAGE, TEXT, PreprocessingSpec
from duoserve.preprocessing.tokenizers.kinds import load_tokenizer
from duoserve.preprocessing.wav import CODINGS, GUID_TAIL

__all__ = ["odd_texts", "probes", "wav_file", "without_one"]

_TEXTS: Final = ("犬と猫", "ＦＵＬＬ ｗｉｄｔｈ ①", "tab\tand bell\x07", "🐈\u200d⬛ e\u0301", "word " * 200)
_ORIENTATION: Final = 0x0112


def probes(spec: PreprocessingSpec) -> list[tuple[bytes, str]]:
    """Images or recordings, and texts.

    Images of odd sizes, a rotated JPEG, a shrunk one, alpha, grey, CMYK, WebP; recordings of other rates, channels and
    codings, too long, one sample long; texts in many scripts, one that is too long, and `odd_texts`.
    """
    files = _images(spec) if spec.audio is None else _recordings()
    odd = ((files[-1], text) for text in odd_texts(spec, 16))
    return [*zip(files, itertools.cycle(_TEXTS), strict=False), *odd]


def odd_texts(spec: PreprocessingSpec, count: int) -> list[str]:
    """Texts of the tokenizer's own pieces, one of them repeated, which have several similar splits."""
    tokenizer = load_tokenizer(spec)
    draw = np.random.default_rng(0)
    texts = []
    for _ in range(count):
        pieces = [tokenizer.piece(int(number)) for number in draw.integers(0, tokenizer.size, draw.integers(1, 9))]
        pieces[0:0] = pieces[:1] * int(draw.integers(0, 6))
        texts.append("".join(piece.removeprefix("##").replace("▁", " ") for piece in pieces))
    return texts


def _images(spec: PreprocessingSpec) -> list[bytes]:
    images = [
        _encode(300, 200, "JPEG", orientation=6),
        _encode(2000, 1500, "JPEG", orientation=1),
        _encode(37, 91, "PNG", mode="RGBA"),
        _encode(1, 1, "PNG"),
        _encode(64, 50, "PNG", mode="L"),
        _encode(60, 44, "JPEG", mode="CMYK"),
    ]
    if spec.background is None:  # graphs of older versions do not read these
        return images
    return [
        *images,
        _encode(50, 70, "PNG", mode="P", orientation=8, transparency=b"\0\x80"),
        _encode(90, 41, "WEBP", mode="RGBA", orientation=3),
        _encode(41, 90, "WEBP", lossless=True),
    ]


def _recordings() -> list[bytes]:
    return [
        wav_file(_sound(16_000, 1, 0.7), 16_000, "int16"),
        wav_file(_sound(44_100, 2, 4.0), 44_100, "float32", extensible=True),
        wav_file(_sound(8000, 1, 1.1), 8000, "uint8", before=[(b"LIST", b"odd")]),
        wav_file(_sound(48_000, 3, 0.4), 48_000, "int24"),
        wav_file(_sound(22_050, 1, 0.0), 22_050, "int16"),
    ]


def without_one(spec: PreprocessingSpec, image: bytes, text: str) -> list[tuple[bytes, str]]:
    """The pair without each of its optional inputs; an empty input means that it is missing."""
    lacking = {IMAGE: (b"", text), TEXT: (image, "")}
    return [lacking[name] for name in spec.optional]


def wav_file(
    samples: npt.NDArray[np.float64],
    sample_rate: int,
    coding: str,
    *,
    extensible: bool = False,
    before: Sequence[tuple[bytes, bytes]] = (),
    size: int | None = None,
) -> bytes:
    """A WAV of any kind that the client reads.

    Args:
        samples: float64 array of shape (frames, channels), -1 to 1.
        sample_rate: Samples a second.
        coding: One of `duoserve.preprocessing.wav.CODINGS`.
        extensible: Whether its header is a WAVE_FORMAT_EXTENSIBLE.
        before: Names and contents of chunks before the samples.
        size: The size of the samples in its header, as a writer into a pipe would set it, without padding.
    """
    tag, bits = next(key for key, value in CODINGS.items() if value == coding)
    numbers = (
        samples
        if tag == 3
        else np.clip(np.rint(samples * 2.0 ** (bits - 1)), -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    )
    if coding == "int24":
        data = numbers.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    else:
        data = (numbers + 128 if bits == 8 else numbers).astype(np.dtype(coding).newbyteorder("<")).tobytes()
    channels = samples.shape[1]
    block = channels * bits // 8
    layout = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else tag, channels, sample_rate, sample_rate * block, block, bits
    )
    if extensible:
        layout += struct.pack("<HHIH", 22, bits, 0, tag) + GUID_TAIL
    chunks = [(b"fmt ", layout), *before]
    if size is None:
        chunks.append((b"data", data))
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks
    )
    if size is not None:
        body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def _sound(sample_rate: int, channels: int, seconds: float) -> npt.NDArray[np.float64]:
    """Rising tones over noise, with energy in every band. At least one sample."""
    frames = max(1, round(sample_rate * seconds))
    time = np.arange(frames)[:, None] / sample_rate
    tones = np.sin(2 * np.pi * (200 + 900 * time) * (1 + np.arange(channels)) * time)
    noise = np.random.default_rng(channels).standard_normal((frames, channels))
    return 0.3 * tones + 0.05 * noise


def _encode(width: int, height: int, kind: str, *, mode: str = "RGB", orientation: int = 1, **options: object) -> bytes:
    noise = np.random.default_rng(width).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    image = image if mode == "RGBA" else image.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif.tobytes(), **options)
    return buffer.getvalue()
