"""The EXIF orientation: how to turn an image that is stored as the sensor saw it. Twin: `export/graph/exif.py`.

One rule for every format and every kind of source: EXIF alone decides (the APP1 segment of a JPEG,
the chunk `eXIf` of a PNG, `EXIF` of a WebP, `info["exif"]` of a PIL image), never XMP.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL import Image

# The beginning of the segment of a JPEG. Some writers also put it into the chunks of PNG and WebP.
EXIF_PREFIX: Final = b"Exif\0\0"

_TAG: Final = 0x0112
_SHORT: Final = 3


def read_orientation(exif: bytes) -> int:
    """The orientation that an EXIF block asks for, 1 to 8; 1 when it has none, or one that can't be read.

    After up to two prefixes comes a TIFF structure; the first entry of tag 0x0112 in its first directory
    counts, of type SHORT (3) and count 1.
    """
    tiff = exif.removeprefix(EXIF_PREFIX).removeprefix(EXIF_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, values, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == _TAG:
            return value if kind == _SHORT and values == 1 and 1 <= value <= 8 else 1
    return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned as its orientation, 1 to 8, asks."""
    if orientation == 1:
        return image
    from PIL.Image import Transpose

    flip, half, mirror = Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM
    left, right = Transpose.ROTATE_90, Transpose.ROTATE_270
    turns = (flip, half, mirror, Transpose.TRANSPOSE, right, Transpose.TRANSVERSE, left)
    return image.transpose(turns[orientation - 2])
