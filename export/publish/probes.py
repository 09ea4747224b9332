"""Inputs that preprocessing is most likely to get wrong: the gate compares client and graph on them."""

import io
import itertools
import struct
from typing import Final

import numpy as np
from PIL import Image

from duoserve.contract import IMAGE, TEXT, PreprocessingSpec
from duoserve.preprocessing.tokenizers.kinds import load_tokenizer

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
    data = _record(8000, 1, 1.1, "PCM_U8")
    chunk = b"LIST\3\0\0\0odd\0"
    size = struct.pack("<I", len(data) + len(chunk) - 8)
    return [
        _record(16_000, 1, 0.7, "PCM_16"),
        _record(44_100, 2, 4.0, "FLOAT", container="WAVEX"),
        data[:4] + size + data[8:36] + chunk + data[36:],  # the samples' chunk begins at 36
        _record(48_000, 3, 0.4, "PCM_24"),
        _record(22_050, 1, 0.0, "PCM_16"),
    ]


def without_one(spec: PreprocessingSpec, image: bytes, text: str) -> list[tuple[bytes, str]]:
    """The pair without each of its optional inputs; an empty input means that it is missing."""
    lacking = {IMAGE: (b"", text), TEXT: (image, "")}
    return [lacking[name] for name in spec.optional]


def _record(sample_rate: int, channels: int, seconds: float, coding: str, *, container: str = "WAV") -> bytes:
    """A WAV of rising tones over noise, with energy in every band. At least one sample."""
    frames = max(1, round(sample_rate * seconds))
    time = np.arange(frames)[:, None] / sample_rate
    tones = np.sin(2 * np.pi * (200 + 900 * time) * (1 + np.arange(channels)) * time)
    noise = np.random.default_rng(channels).standard_normal((frames, channels))
    import soundfile  # only for models of clips: it loads libsndfile

    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * tones + 0.05 * noise, sample_rate, coding, format=container)
    return buffer.getvalue()


def _encode(width: int, height: int, kind: str, *, mode: str = "RGB", orientation: int = 1, **options: object) -> bytes:
    noise = np.random.default_rng(width).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    image = image if mode == "RGBA" else image.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif.tobytes(), **options)
    return buffer.getvalue()
