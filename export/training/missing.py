"""Layers of a model that learns to answer when one of its inputs is missing.

By the contract, a missing image is all zeros, a missing text all padding. A branch's features of
such an input are replaced by learned ones. In training, rows lose an optional input at random; the
branches themselves still see the real input, so that their statistics (batch normalisation above
all) are not disturbed.
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
from keras import layers

from duoserve.contract import IMAGE, TEXT
from export.dataset.data import Arrays
from export.errors import ExportError

OPTIONAL: Final = (IMAGE, TEXT)
"""The inputs that may be missing, if a model was trained for it; never both in one row."""


def check_optional(names: Sequence[str], *, dropout: float) -> tuple[str, ...]:
    """The names in the order of `OPTIONAL`, each once.

    Raises:
        ExportError: Another name, or a share of rows that is not between 0 and 1.
    """
    if unknown := [name for name in names if name not in OPTIONAL]:
        raise ExportError(f"Expected optional inputs among {', '.join(OPTIONAL)}. Received: {unknown[0]!r}")
    if names and not 0 < dropout < 1:
        raise ExportError(
            f"Expected modality_dropout above 0 and below 1 where inputs are optional. Received: {dropout}"
        )
    return tuple(name for name in OPTIONAL if name in names)


def without(arrays: Arrays, name: str, pad_id: int) -> Arrays:
    """The rows without their image or without their text; takes no memory."""
    images, tokens = arrays.images, arrays.tokens
    if name == IMAGE:
        images = np.broadcast_to(np.zeros((), images.dtype), images.shape)
    else:
        tokens = np.broadcast_to(np.full((), pad_id, tokens.dtype), tokens.shape)
    return Arrays(images, tokens, arrays.targets)


@keras.saving.register_keras_serializable(package="duoserve")
class MissingInputs(layers.Layer):  # type: ignore[misc]
    """Replaces the features of a missing input by learned ones.

    Takes [image, tokens, regions, seen, read]: both inputs, the image as features of shape (batch, height,
    width, channels) and as one vector, the text as one vector. Returns the last three.

    Args:
        optional: Which inputs may be missing.
        rate: Share of the rows that lose one of them in training.
    """

    def __init__(self, optional: Sequence[str], rate: float, **options: Any) -> None:
        super().__init__(**options)
        self.optional = tuple(optional)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: Any) -> None:
        *_, seen, read = input_shape
        if IMAGE in self.optional:
            self.no_image = self.add_weight(name="no_image", shape=seen[-1:], initializer="zeros")
        if TEXT in self.optional:
            self.no_text = self.add_weight(name="no_text", shape=read[-1:], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        image, tokens, regions, seen, read = inputs
        ops = keras.ops
        draw = keras.random.uniform(ops.shape(seen)[:1], seed=self.seed_generator) if training else None
        share = self.rate / len(self.optional)
        if IMAGE in self.optional:
            missing = ops.all(image == 0, axis=(1, 2, 3))
            missing = missing if draw is None else ops.logical_or(missing, draw < share)
            # Zeros are enough: attention over regions has a bias that it can learn for them.
            regions = _replaced(regions, missing, 0.0)
            seen = _replaced(seen, missing, self.no_image)
        if TEXT in self.optional:
            missing = ops.all(tokens == 0, axis=1)
            missing = missing if draw is None else ops.logical_or(missing, draw >= 1 - share)
            read = _replaced(read, missing, self.no_text)
        return regions, seen, read

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[2:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "optional": self.optional, "rate": self.rate}


def _replaced(features: Any, missing: Any, learned: Any) -> Any:
    missing = keras.ops.reshape(missing, (-1, *[1] * (len(features.shape) - 1)))
    return keras.ops.where(missing, keras.ops.cast(learned, features.dtype), features)
