"""What the frozen encoders make of every row, computed once and kept."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image
from tokenizers import BertWordPieceTokenizer

from demo.pretrained.joined import LENGTH, READ, SIZE
from export.dataset.data import Dataset
from export.dataset.rows import Row

IMAGES: tuple[bool, ...] = (*(False for _ in READ), True)
"""Whether a vector is one of the image, in the order of `features`."""


def features(data: Dataset, frozen: keras.Model, vocabulary: Path, kept: Path) -> list[npt.NDArray[Any]]:
    """A float32 array of shape (rows, features) for each vector that the encoders give.

    Args:
        data: All rows count, whatever their split.
        frozen: `demo.pretrained.joined.encoders`.
        vocabulary: MiniLM's `vocab.txt`.
        kept: Where they are kept (.npz). They are computed again for other data or other encoders.
    """
    key = f"{data.digest} {SIZE} {LENGTH} {READ}"
    if kept.exists():
        with np.load(kept) as file:
            if str(file["key"]) == key:
                return [file[f"part_{number}"] for number in range(len(IMAGES))]
    found = frozen.predict([_pixels(data.rows), _tokens(data.rows, vocabulary)], batch_size=32, verbose=0)
    scratch = kept.with_suffix(f".{os.getpid()}.npz")
    np.savez(scratch, key=key, **{f"part_{number}": part for number, part in enumerate(found)})
    scratch.replace(kept)
    return list(found)


def _pixels(rows: Sequence[Row]) -> npt.NDArray[np.uint8]:
    pixels = np.zeros((len(rows), SIZE, SIZE, 3), np.uint8)
    for number, row in enumerate(rows):
        with Image.open(row.image) as image:
            pixels[number] = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return pixels


def _tokens(rows: Sequence[Row], vocabulary: Path) -> npt.NDArray[np.int32]:
    tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    return np.array([each.ids for each in tokenizer.encode_batch([row.text for row in rows])], np.int32)
