"""Transparent pixels on the background of the spec, in integers. Twin: `export/graph/transparency.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from duoserve.preprocessing.image_headers import Background

if TYPE_CHECKING:
    from PIL import Image


def flatten(image: Image.Image, background: Background | None) -> Image.Image:
    """The image in RGB. With no background, alpha is dropped."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    if background is None:
        return image.convert("RGB")
    from PIL import Image

    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=image)  # the arithmetic of `blend`, in C
    return flat


def blend(colour: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8], background: Background) -> npt.NDArray[np.uint8]:
    """`colour * alpha / 255 + background * (255 - alpha) / 255`, rounded to the nearest; of shapes (…, 3) and (…)."""
    cover = alpha[..., None].astype(np.uint16)
    total = colour * cover + np.array(background, np.uint16) * (255 - cover) + 128  # at most 65,153
    blended: npt.NDArray[np.uint8] = ((total + (total >> 8)) >> 8).astype(np.uint8)
    return blended
