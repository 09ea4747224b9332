"""WebP files: lossy and lossless, with and without alpha. Twin: `export/graph/webp.py`."""

from __future__ import annotations

import dataclasses
import io
import struct
from typing import TYPE_CHECKING, ClassVar

from duoserve.errors import InvalidInput
from duoserve.preprocessing import image_headers as headers
from duoserve.preprocessing.exif import read_orientation
from duoserve.preprocessing.image_headers import Background, EncodedImage
from duoserve.preprocessing.transparency import flatten

if TYPE_CHECKING:
    from PIL import Image

_PIXELS = (b"VP8 ", b"VP8L")
_ANIMATED, _HAS_EXIF, _HAS_ALPHA = 0x02, 0x08, 0x10


@dataclasses.dataclass(frozen=True, slots=True)
class WebpImage(EncodedImage):
    """A WebP."""

    format: ClassVar[str] = "WebP"

    alpha: tuple[int, int]  # start and end of the chunk ALPH; equal where there is none
    pixels: int  # start of the chunk VP8 or VP8L

    def decode(self, background: Background | None, target: tuple[int, int] | None) -> Image.Image:
        from PIL import Image

        # Pillow refuses some files for chunks that no decoder needs. Decoders read pixels to the end of the file.
        data, start = self.data, self.pixels + 8
        body = data[self.pixels : self.pixels + 4] + struct.pack("<I", len(data) - start) + data[start:]
        if self.alpha[0] < self.alpha[1]:
            size = (self.width - 1) | (self.height - 1) << 24
            extended = struct.pack("<4sIB3x", b"VP8X", 10, _HAS_ALPHA) + size.to_bytes(6, "little")
            body = extended + data[slice(*self.alpha)] + body
        body += b"\0" * (len(body) % 2)
        plain = struct.pack("<4sI4s", b"RIFF", len(body) + 4, b"WEBP") + body
        with Image.open(io.BytesIO(plain), formats=("WEBP",)) as image:
            image.load()
            return flatten(image, background)


def read_webp(data: bytes) -> WebpImage:
    """Reads the chunks. Refuses a WebP that is truncated, animated or too large."""
    end = int.from_bytes(data[4:8], "little") + 8
    if end > len(data) or len(data) < 30:
        raise headers.truncated("WebP", data)
    flags, position = 0, 12
    if data[12:16] == b"VP8X":
        flags = data[20]
        position = 20 + _padded(data, 16)
        if flags & _ANIMATED:
            raise InvalidInput(headers.Refused.ANIMATED)
    elif data[12:16] not in _PIXELS:
        raise headers.broken("WebP", "one without pixels")
    alpha, pixels, exif = (0, 0), 0, None
    for _ in range(headers.MAX_PARTS):
        if position + 8 > end or exif is not None:
            break
        name, start = data[position : position + 4], position + 8
        size = int.from_bytes(data[position + 4 : start], "little")
        if start + size > end:
            if not pixels:
                raise headers.truncated("WebP", data)
            break
        if name in _PIXELS and not pixels:
            pixels = position
        elif name == b"ALPH" and not pixels:
            alpha = position, start + _padded(data, position + 4)
        elif name == b"EXIF" and flags & _HAS_EXIF:
            exif = data[start : start + size]
        position = start + size + size % 2
    if not pixels:
        raise headers.broken("WebP", "one without pixels")
    height, width = _size(data, pixels)
    if data[12:16] == b"VP8X" and (width - 1) | (height - 1) << 24 != int.from_bytes(data[24:30], "little"):
        raise headers.broken("WebP", "one whose headers disagree about its size")
    if data[pixels : pixels + 4] == b"VP8L":
        alpha = 0, 0
    headers.check_size(height, width, "WebP of ")
    return WebpImage(data, height, width, 1 if exif is None else read_orientation(exif), alpha, pixels)


def _padded(data: bytes, at: int) -> int:
    size = int.from_bytes(data[at : at + 4], "little")
    return size + size % 2


def _size(data: bytes, at: int) -> tuple[int, int]:
    """Height and width from a chunk VP8 or VP8L."""
    head = data[at : at + 18].ljust(18, b"\0")
    if head[3:4] == b"L":
        bits = int.from_bytes(head[9:13], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    # The length of the first part, which has to be within the chunk.
    if int.from_bytes(head[8:11], "little") >> 5 >= int.from_bytes(head[4:8], "little"):
        raise headers.broken("WebP", "one whose headers disagree about its length")
    width, height = struct.unpack_from("<HH", head, 14)
    return height & 0x3FFF, width & 0x3FFF
