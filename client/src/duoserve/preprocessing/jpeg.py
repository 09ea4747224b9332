"""JPEG files: read from the first to the last marker as libjpeg does, then decoded. Twin: `export/graph/jpeg.py`."""

from __future__ import annotations

import dataclasses
import io
import re
import struct
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from duoserve.errors import InvalidInput
from duoserve.preprocessing import image_headers as headers
from duoserve.preprocessing.exif import EXIF_PREFIX, read_orientation
from duoserve.preprocessing.image_headers import Background, EncodedImage

if TYPE_CHECKING:
    from PIL import Image

JPEG: Final = b"\xff\xd8\xff"

_MARKER: Final = re.compile(rb"\xff[^\x00\xff]")  # other bytes before a marker are skipped
# In entropy-coded data 0xff is followed by 0, and restart markers are part of it.
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

_EOI, _SOS, _DRI, _TEM = 0xD9, 0xDA, 0xDD, 0x01
_APP0, _APP1, _APP14, _COM = 0xE0, 0xE1, 0xEE, 0xFE
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_OTHER_FRAMES: Final = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_SEGMENTS: Final = {_BASELINE, _EXTENDED, _PROGRESSIVE, 0xC4, 0xCC, _SOS, 0xDB, 0xDC, _DRI, *range(0xE0, 0xF0), _COM}
_SMOOTHED: Final = 10  # coefficients of a block that libjpeg guesses where scans are missing, not always alike


@dataclasses.dataclass(frozen=True, slots=True)
class JpegImage(EncodedImage):
    """A JPEG."""

    format: ClassVar[str] = "JPEG"

    inks: bool  # whether it has 4 components: CMYK, or YCCK
    adobe: bool  # whether it has Adobe's marker; its inks are stored inverted then
    kept: tuple[tuple[int, int], ...]  # starts and ends of what the decoder needs: everything but metadata

    def decode(self, background: Background | None, target: tuple[int, int] | None) -> Image.Image:
        from PIL import Image

        # Pillow refuses some files because of metadata that no decoder needs, and reads some as another format.
        plain = b"".join([self.data[start:end] for start, end in self.kept])
        with Image.open(io.BytesIO(plain), formats=("JPEG",)) as image:
            if target is not None:
                ratio = headers.decode_ratio(self.height, self.width, *target)
                image.draft(None, (self.width // ratio, self.height // ratio))
            image.load()
            if not self.inks:
                return image if image.mode == "RGB" else image.convert("RGB")
            # Pillow has inverted what it read, marker or not.
            return ink_free(image, inverted=self.adobe)


def ink_free(image: Image.Image, *, inverted: bool) -> Image.Image:
    """A CMYK image in RGB, as TensorFlow converts it."""
    from PIL import Image

    inks = np.asarray(image).astype(np.uint16)
    if inverted:
        inks = 255 - inks
    return Image.fromarray((inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8))


def read_jpeg(data: bytes) -> JpegImage:
    """Reads the markers. Refuses a JPEG that is truncated, of a rare kind, without its last scans, or too large."""
    frame: _Frame | None = None
    scans: list[bytes] = []
    kept = [(0, 2)]
    orientation = 0
    adobe = False
    position, first_scan, count, restarts = 2, 0, 0, False
    while True:
        marker, start = _next_marker(data, position, _MARKER)
        if marker == _EOI and scans:
            kept.append((first_scan, start))  # the rest is another image, or a video
            break
        if marker == _TEM or 0xD0 <= marker <= 0xD7:
            position = start
            continue
        count += not scans
        if count > headers.MAX_PARTS:
            raise InvalidInput(headers.Refused.PARTS)
        end = _segment_end(data, marker, start)
        content = start + 2
        if marker in (_BASELINE, _EXTENDED, _PROGRESSIVE) and frame is None:
            frame = _Frame.read(data, marker, content, end)
        elif marker == _DRI:
            restarts = any(data[content:end])
        elif marker == _APP1 and not orientation and not scans and data.startswith(EXIF_PREFIX, content, end):
            orientation = read_orientation(data[content:end])
        elif marker == _APP14 and end - content >= 12 and data.startswith(b"Adobe", content):
            adobe |= not scans or (frame is not None and frame.several_scans(scans[0]))
        position = end
        if marker == _SOS:
            if frame is None or (scans and not frame.several_scans(scans[0])):
                raise headers.broken("JPEG", "one whose scans are out of order")
            first_scan = first_scan or start - 2
            scans.append(data[content:end])
            position = _scan_end(data, end, restarts)
        elif not scans and _is_needed(data, marker, content, end):
            kept.append((start - 2, end))
    assert frame is not None
    headers.check_size(frame.height, frame.width, "JPEG of ")
    if not frame.complete(scans):
        raise InvalidInput(headers.Refused.JPEG_SCANS)
    has_inks = len(frame.components) == 4
    return JpegImage(data, frame.height, frame.width, orientation or 1, has_inks, adobe, tuple(kept))


@dataclasses.dataclass(frozen=True, slots=True)
class _Frame:
    """The content of a frame header."""

    progressive: bool
    height: int
    width: int
    components: bytes

    @classmethod
    def read(cls, data: bytes, marker: int, start: int, end: int) -> _Frame:
        if end - start < 6:
            raise headers.broken("JPEG", "one with a broken frame header")
        precision, height, width, count = struct.unpack_from(">BHHB", data, start)
        if precision != 8:
            raise InvalidInput(headers.Refused.JPEG_KIND)
        if count not in (1, 3, 4):
            raise InvalidInput(headers.Refused.JPEG_COMPONENTS)
        return cls(marker == _PROGRESSIVE, height, width, data[start + 6 : end : 3][:count])

    def several_scans(self, first: bytes) -> bool:
        """Whether more scans may follow the first one."""
        return self.progressive or first[:1] < bytes([len(self.components)])

    def complete(self, scans: list[bytes]) -> bool:
        """Whether the low coefficients of every component come with all their bits."""
        if not self.progressive:
            return True
        exact = set()
        for scan in scans:
            count = scan[0] if scan else 0
            if len(scan) >= 4 + 2 * count and not scan[3 + 2 * count] & 15:
                low, high = scan[1 + 2 * count], min(scan[2 + 2 * count], _SMOOTHED - 1)
                exact |= {(each, place) for each in scan[1 : 1 + 2 * count : 2] for place in range(low, high + 1)}
        return all((each, place) in exact for each in self.components for place in range(_SMOOTHED))


def _next_marker(data: bytes, position: int, pattern: re.Pattern[bytes]) -> tuple[int, int]:
    """The next marker, and where its parameters start."""
    found = pattern.search(data, position)
    if found is None:
        raise headers.truncated("JPEG", data)
    return data[found.end() - 1], found.end()


def _scan_end(data: bytes, position: int, restarts: bool) -> int:
    """Where the marker after a scan is. With restart markers, invalid ones within are skipped, as libjpeg does."""
    while True:
        marker, start = _next_marker(data, position, _AFTER_SCAN)
        if restarts and marker < _BASELINE:
            following, position = _next_marker(data, start, _MARKER)
            if 0xD0 <= following <= 0xD7:
                continue
        return start - 2


def _segment_end(data: bytes, marker: int, start: int) -> int:
    if marker in _OTHER_FRAMES:
        raise InvalidInput(headers.Refused.JPEG_KIND)
    if marker not in _SEGMENTS:
        raise headers.broken("JPEG", f"one with marker {marker:#04x} where none may be")
    end = start + max(int.from_bytes(data[start : start + 2], "big"), 2)
    if end > len(data):
        raise headers.truncated("JPEG", data)
    return end


def _is_needed(data: bytes, marker: int, start: int, end: int) -> bool:
    """Whether the decoder needs a segment: two kinds of metadata determine the colours."""
    if marker == _APP0:
        return data.startswith(b"JFIF\0", start) and end - start >= 14
    if marker == _APP14:
        return data.startswith(b"Adobe", start) and end - start >= 12
    return marker != _COM and not _APP0 <= marker <= 0xEF
