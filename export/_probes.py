"""Inputs that preprocessing most easily gets wrong: the gate compares client and graph on them."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image

from duoserve.contract import IMAGE, TEXT, PreprocessingSpec

__all__ = ["probes", "without_one"]

_TEXTS: Final = ("犬と猫", "ＦＵＬＬ ｗｉｄｔｈ ①", "tab\tand bell\x07", "🐈\u200d⬛ e\u0301", "word " * 200)
_ORIENTATION: Final = 0x0112


def probes() -> list[tuple[bytes, str]]:
    """Encoded images and texts: odd sizes, a turned JPEG, a shrunk one, alpha, grey; many scripts, too long a text."""
    images = [
        _encode(300, 200, "JPEG", orientation=6),
        _encode(2000, 1500, "JPEG", orientation=1),
        _encode(37, 91, "PNG", mode="RGBA"),
        _encode(1, 1, "PNG"),
        _encode(64, 50, "PNG", mode="L"),
    ]
    return list(zip(images, _TEXTS, strict=True))


def without_one(spec: PreprocessingSpec, image: bytes, text: str) -> list[tuple[bytes, str]]:
    """The pair without each of the inputs that are optional; an empty one stands for what is missing."""
    lacking = {IMAGE: (b"", text), TEXT: (image, "")}
    return [lacking[name] for name in spec.optional]


def _encode(width: int, height: int, kind: str, *, mode: str = "RGB", orientation: int = 1) -> bytes:
    noise = np.random.default_rng(width).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, kind, exif=exif)
    return buffer.getvalue()
