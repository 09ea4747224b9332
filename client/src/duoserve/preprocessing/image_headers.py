"""Common parts of the JPEG, PNG and WebP header readers. Twin: `export/graph/image_headers.py`.

A file is read twice: by a check of our own, which is pure Python here and graph operations there,
and then by a decoder. The check refuses what is too large, animated, or read differently by the
decoders of the two sides, so that `serving_default` and `serving_bytes` give one answer or none.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Final

from duoserve.errors import InvalidInput

if TYPE_CHECKING:
    from PIL import Image

Background = tuple[int, int, int]  # red, green and blue, 0-255, under transparent pixels

MAX_PIXELS: Final = 89_478_485  # more are refused as a decompression bomb; Pillow's own limit: 256 MiB of RGB
MAX_PARTS: Final = 20_000  # segments or chunks of a file: the graph reads each, which takes some microseconds

OTHER_FORMATS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftyphev", "a HEIC"),
    (4, b"ftypmif", "a HEIF"),
    (4, b"ftypmsf", "a HEIF"),
    (4, b"ftypavi", "an AVIF"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"<svg", "an SVG"),
    (0, b"<?xml", "an XML"),
    (0, b"%PDF", "a PDF"),
)
"""Offset, first bytes and name of formats that are refused with their name."""


class Refused:
    """Texts of the errors that client and graph share. For a damaged file, each has its own."""

    FORMAT: Final = "Expected image to be a JPEG, PNG or WebP. Received: "
    HINT: Final = " file (convert it, or open it with Pillow and pass the PIL image)"
    PIXELS: Final = f"Expected image of at most {MAX_PIXELS} pixels. Received: more"
    PARTS: Final = f"Expected image of at most {MAX_PARTS} chunks or segments. Received: more"
    NO_PIXELS: Final = "Expected image to have pixels. Received: none"
    ANIMATED: Final = "Expected image to be a still image. Received: an animated one (pass one frame of it)"
    JPEG_KIND: Final = (
        "Expected image to be a baseline or progressive 8-bit JPEG."
        " Received: a lossless, hierarchical, arithmetic-coded or 12-bit one"
    )
    JPEG_COMPONENTS: Final = "Expected image to be a JPEG of 1, 3 or 4 components. Received: another number"
    JPEG_SCANS: Final = "Expected image to be a whole JPEG. Received: a progressive one without its last scans"


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedImage:
    """A file and its headers. A subclass for each format decodes."""

    format: ClassVar[str]  # "JPEG", "PNG" or "WebP"

    data: bytes = dataclasses.field(repr=False)
    height: int  # rows as stored, before the EXIF orientation
    width: int  # columns as stored
    orientation: int  # of EXIF, 1 to 8

    @property
    def since_background(self) -> bool:
        """Whether only graphs whose spec has a `background` read this file as the client does."""
        return self.format == "WebP" or (self.format == "PNG" and self.orientation != 1)

    def decode(self, background: Background | None, target: tuple[int, int] | None) -> Image.Image:
        """A PIL image in RGB, not turned yet, on the background (None: alpha is dropped).

        A large one may come smaller if it will be resized to `target`, (height, width). Raises any of Pillow's errors
        for a broken file.
        """
        raise NotImplementedError


def check_size(height: int, width: int, kind: str = "") -> None:
    """Refuses images without pixels and with too many."""
    if not height or not width:
        raise InvalidInput(Refused.NO_PIXELS)
    if height * width > MAX_PIXELS:
        raise InvalidInput(f"{Refused.PIXELS}, {kind}{width}x{height}")


def broken(kind: str, what: str) -> InvalidInput:
    """The error for a file that is not a whole JPEG, PNG or WebP."""
    return InvalidInput(f"Expected image to be a whole {kind}. Received: {what}")


def truncated(kind: str, data: bytes) -> InvalidInput:
    """The error for a file that ends too early."""
    return broken(kind, f"a truncated one, of {len(data)} bytes")


def decode_ratio(height: int, width: int, target_height: int, target_width: int) -> int:
    """The ratio by which a JPEG is shrunk while it is decoded: 1, 2, 4 or 8.

    The largest that leaves the shorter side at least twice as long as the longer side of the target, so
    that the antialiased resize still averages over several pixels; the same before and after a rotation.
    Pillow's `draft` and `tf.io.decode_jpeg(ratio=…)` then give identical pixels.
    """
    shorter, longer = min(height, width), max(target_height, target_width)
    return next((ratio for ratio in (8, 4, 2) if shorter >= 2 * ratio * longer), 1)
