"""Reads the headers of JPEG and PNG files, so that a bad one is refused before it is decoded or sent.

Pure: bytes in, facts out. The rules here are the contract of the in-graph path too, which
`serving_bytes` follows: which formats count, when a JPEG is turned, how far it is shrunk
while it is decoded.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

from duoserve.errors import InvalidInput

__all__ = ["MAX_PIXELS", "EncodedImage", "decode_ratio", "exif_orientation", "inspect"]

MAX_PIXELS: Final = 89_478_485
"""More is refused as a decompression bomb. Pillow's own limit: 256 MiB of RGB."""

_HINT: Final = "open it with Pillow and pass the PIL image, or convert it to JPEG or PNG"

_OTHER_FORMATS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (8, b"WEBP", "a WebP"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftyphei", "a HEIF"),
    (4, b"ftypmif", "a HEIF"),
    (4, b"ftypavif", "an AVIF"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"<svg", "an SVG"),
    (0, b"<?xml", "an XML"),
    (0, b"%PDF", "a PDF"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedImage:
    """What the headers of an encoded image say.

    Attributes:
        format: "JPEG" or "PNG".
        height: Rows as stored, before the EXIF orientation.
        width: Columns as stored.
        orientation: EXIF orientation, 1 to 8. Always 1 for PNG.
    """

    format: str
    height: int
    width: int
    orientation: int = 1


def decode_ratio(height: int, width: int, target_height: int, target_width: int) -> int:
    """By how much a JPEG is shrunk while it is decoded: 1, 2, 4 or 8.

    The largest ratio that leaves the shorter side at least twice as long as the longer side
    of the target, so that the antialiased resize that follows still averages over pixels of
    its own. Both sides count alike: the answer is the same before and after a rotation.
    Client and graph use this one rule; Pillow's `draft` and `tf.io.decode_jpeg(ratio=…)`
    then give identical pixels.
    """
    shorter, longer = min(height, width), max(target_height, target_width)
    return next((ratio for ratio in (8, 4, 2) if shorter >= 2 * ratio * longer), 1)


def inspect(data: bytes) -> EncodedImage:
    """Format, size and orientation of an encoded image.

    Raises:
        InvalidInput: Not a JPEG or PNG, truncated, animated, of a rare kind that decoders
            disagree on, or of more than `MAX_PIXELS` pixels.
    """
    if data[:3] == b"\xff\xd8\xff":
        found = _inspect_jpeg(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        found = _inspect_png(data)
    else:
        raise InvalidInput(f"Expected image to be a JPEG or PNG. Received: {_name(data)}")
    if found.height * found.width > MAX_PIXELS:
        raise InvalidInput(
            f"Expected image of at most {MAX_PIXELS} pixels. Received: {found.format} of {found.width}x{found.height}"
        )
    return found


def _name(data: bytes) -> str:
    if not data:
        return "no bytes"
    if len(data) < 16:
        return f"{len(data)} bytes, too few for an image"
    for offset, magic, name in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            return f"{name} file ({_HINT})"
    return f"{len(data)} bytes of no known image format"


def _inspect_jpeg(data: bytes) -> EncodedImage:
    size = None
    orientation: int | None = None
    for marker, start, end in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if end - start < 6:
                raise InvalidInput("Expected image to be a whole JPEG. Received: one with a broken frame header")
            precision, height, width = struct.unpack_from(">BHH", data, start)
            if precision != 8 or marker > 0xC2:
                kind = f"{precision}-bit" if precision != 8 else "lossless, hierarchical or arithmetic-coded"
                raise InvalidInput(f"Expected image to be a baseline or progressive 8-bit JPEG. Received: {kind} JPEG")
            size = height, width
        elif marker == 0xE1 and orientation is None:
            orientation = _app1_orientation(data[start:end])
        elif marker == 0xDA:
            if size is None or 0 in size:
                raise InvalidInput("Expected image to be a whole JPEG. Received: one without a size")
            # Within the entropy-coded data 0xff is always stuffed, so this can only be an end
            # marker. It is looked for from the end, where it nearly always is.
            if data.rfind(b"\xff\xd9", end) < 0:
                raise InvalidInput(f"Expected image to be a whole JPEG. Received: truncated, {len(data)} bytes")
            return EncodedImage("JPEG", *size, orientation or 1)
    raise InvalidInput(f"Expected image to be a whole JPEG. Received: truncated, {len(data)} bytes")


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment up to the first scan."""
    segments: list[tuple[int, int, int]] = []
    position, size = 2, len(data)
    while position + 4 <= size:
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        length = data[position + 2] << 8 | data[position + 3]
        end = position + 2 + length
        if length < 2 or end > size:
            break
        segments.append((marker, position + 4, end))
        if marker == 0xDA:
            break
        position = end
    return segments


def exif_orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1 when it has none, or one that can't be read.

    The rule, which the in-graph path repeats: of the segments before the first scan, the
    first APP1 that begins with "Exif\\0\\0" counts, and in it the first entry of tag 0x0112
    in IFD0, of type SHORT (3) and count 1. Anything else, and values outside 1 to 8, mean 1.
    """
    if data[:3] != b"\xff\xd8\xff":
        return 1
    for marker, start, end in _segments(data):
        if marker == 0xE1:
            found = _app1_orientation(data[start:end])
            if found is not None:
                return found
    return 1


def _app1_orientation(segment: bytes) -> int | None:
    """None when the segment is no EXIF (XMP shares the marker)."""
    if segment[:6] != b"Exif\0\0":
        return None
    tiff = segment[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (ifd,) = struct.unpack_from(order + "I", tiff, 4)
    if ifd + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, ifd)
    for entry in range(ifd + 2, min(ifd + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, values = struct.unpack_from(order + "HHI", tiff, entry)
        if tag == 0x0112:
            (value,) = struct.unpack_from(order + "H", tiff, entry + 8)
            return value if kind == 3 and values == 1 and 1 <= value <= 8 else 1
    return 1


def _inspect_png(data: bytes) -> EncodedImage:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise InvalidInput(f"Expected image to be a whole PNG. Received: truncated, {len(data)} bytes")
    width, height = struct.unpack_from(">II", data, 16)
    if width == 0 or height == 0:
        raise InvalidInput("Expected image to be a whole PNG. Received: one without pixels")
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        if kind == b"acTL":
            raise InvalidInput("Expected image to be a still PNG. Received: an animated PNG (pass one frame of it)")
        position += 12 + length
        if kind == b"IEND" and position <= len(data):
            return EncodedImage("PNG", height, width)
    raise InvalidInput(f"Expected image to be a whole PNG. Received: truncated, {len(data)} bytes")
