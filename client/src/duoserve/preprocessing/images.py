"""Images of every kind to upright RGB. Twin: `export/graph/images.py`, with identical pixels."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any, Final, ForwardRef, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from duoserve.contract import IMAGE
from duoserve.errors import InvalidInput
from duoserve.preprocessing.exif import read_orientation, upright
from duoserve.preprocessing.image_headers import OTHER_FORMATS, Background, EncodedImage, Refused, broken, check_size
from duoserve.preprocessing.jpeg import JPEG, ink_free, read_jpeg
from duoserve.preprocessing.png import PNG, eight_bits, read_png
from duoserve.preprocessing.sources import read_bytes
from duoserve.preprocessing.transparency import flatten
from duoserve.preprocessing.webp import read_webp

if TYPE_CHECKING:
    from PIL import Image
    from PIL.Image import Image as PilImage
else:  # loads Pillow only where the hint is resolved
    PilImage = ForwardRef("__import__('PIL.Image').Image.Image")

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | npt.NDArray[np.uint8] | PilImage
)
"""A path, the bytes of a JPEG, PNG or WebP, a file object, a uint8 array (height, width, 3), or a PIL image."""

_MODES: Final = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"}


def opened(source: Any) -> Any:
    """The headers of the file behind a path, bytes or file object; arrays, PIL images and headers as they are."""
    if isinstance(source, (np.ndarray, EncodedImage)) or _is_pil(source):
        return source
    return inspect(read_bytes(source, IMAGE, ", a numpy array or a PIL image"))


def inspect(data: bytes) -> EncodedImage:
    """The headers of an encoded image. Raises InvalidInput: see `Preprocessor.image`."""
    if data.startswith(JPEG):
        return read_jpeg(data)
    if data.startswith(PNG):
        return read_png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return read_webp(data)
    raise InvalidInput(Refused.FORMAT + _name(data))


def as_pil(source: Any, background: Background | None, target: tuple[int, int] | None = None) -> Image.Image:
    """A PIL image in RGB, upright, of what `opened` returned. See `EncodedImage.decode`."""
    from PIL import Image

    if isinstance(source, np.ndarray):
        check_array(source)
        return Image.fromarray(np.ascontiguousarray(source))
    if not isinstance(source, EncodedImage):
        image = _checked(cast("Image.Image", source))
        exif = image.info.get("exif")  # not getexif(), which asks XMP too, and forgets it in some copies
        orientation = read_orientation(exif) if isinstance(exif, bytes) else 1
        return upright(_rgb(image, background), orientation)
    try:
        return upright(source.decode(background, target), source.orientation)
    except InvalidInput:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ValueError, zlib.error …
        raise broken(source.format, f"{error}") from error


def open_image(source: ImageSource, background: Background | None = None) -> Image.Image:
    """A PIL image in RGB, upright, in its own size, on the background of a spec (None: alpha is dropped).

    Raises InvalidInput: see `Preprocessor.image`.
    """
    return as_pil(opened(source), background)


def check_array(array: npt.NDArray[Any]) -> None:
    """Refuses arrays that are not images, and those of too many pixels."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InvalidInput(
            "Expected image to be a uint8 array of shape (height, width, 3), RGB, 0-255."
            f" Received: {array.dtype} array of shape {array.shape}"
        )
    check_size(array.shape[0], array.shape[1])


def resize(image: Image.Image, height: int, width: int) -> npt.NDArray[np.uint8]:
    """uint8 array of shape (height, width, 3) of an image in RGB."""
    from PIL import Image

    # The graph does the same arithmetic: rows, then columns. So does Pillow, but since release 12
    # for images over 100 times as high as wide, which are therefore resized in two steps here.
    if image.height > 100 * image.width:
        image = image.resize((width, image.height), Image.Resampling.BILINEAR)
    size = width, height
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))


def _name(data: bytes) -> str:
    if not data:
        return "no bytes"
    if len(data) < 16:
        return f"{len(data)} bytes, too few for an image"
    for offset, magic, name in OTHER_FORMATS:
        if data.startswith(magic, offset):
            return name + Refused.HINT
    return f"{len(data)} bytes of no known image format"


def _is_pil(source: Any) -> bool:
    # Without importing Pillow: an image can only come from a module that is there already.
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(source).__mro__)


def _checked(image: Image.Image) -> Image.Image:
    """The image with its pixels loaded."""
    try:
        if 0 in image.size:
            raise InvalidInput(f"Expected image to have pixels. Received: a PIL image of size {image.size}")
        check_size(image.height, image.width)
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise InvalidInput(f"{Refused.ANIMATED}: a {image.format}")
        image.load()
    except InvalidInput:
        raise
    except Exception as error:  # see `as_pil`
        if "closed" in str(error) or getattr(image, "fp", image) is None:
            raise InvalidInput("Expected image to be an open PIL image. Received: one whose file is closed") from error
        raise broken(image.format or "PIL image", str(error) or repr(error)) from error
    return image


def _rgb(image: Image.Image, background: Background | None) -> Image.Image:
    """RGB as TensorFlow's decoders make it."""
    if image.mode == "CMYK":
        return ink_free(image, inverted=True)
    if image.mode.startswith("I;16"):
        return eight_bits(image).convert("RGB")
    if image.mode not in _MODES:
        expected = (
            "of 8 bits a channel" if image.mode in ("I", "F") else "of mode RGB, RGBA, L, LA, P, CMYK or the like"
        )
        raise InvalidInput(f"Expected image {expected}. Received: a PIL image of mode {image.mode}")
    return flatten(image, background)
