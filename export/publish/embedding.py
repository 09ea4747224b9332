"""The features where both inputs are joined, as vectors for search and duplicates."""

from __future__ import annotations

from typing import Any, Final

import keras
import tensorflow as tf

from export.errors import ExportError
from export.publish.weights import Predict
from export.training.fusion import FUSED

__all__ = ["EMBEDDING", "embed_fn", "embedding_length"]

EMBEDDING: Final = "embedding"
"""Name of the output that a model of your own has its features at."""

Tensor = Any  # keras.KerasTensor: keras has no types to check against


def embedding_length(model: keras.Model) -> int:
    """Numbers in a vector; 0 where nothing says which features they are.

    They are the model's output `embedding`, else what its layer `fused` gives, as that of every
    model that was trained here.

    Raises:
        ExportError: The output `embedding` is not one row of numbers for each pair.
    """
    features = _features(model)
    return 0 if features is None else int(features.shape[-1])


def embed_fn(model: keras.Model) -> Predict:
    """`(image, tokens) -> vectors` of length 1, float32, a row each; of zeros where all features are 0."""
    features = _features(model)
    if features is None:
        raise ExportError(f"Expected a model with the output {EMBEDDING!r} or the layer {FUSED!r}. Received: neither")
    part = keras.Model(model.input, features)

    def embed(image: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        found = tf.cast(part({"image": image, "tokens": tokens}, training=False), tf.float32)
        return tf.math.l2_normalize(found, axis=-1)

    return embed


def _features(model: keras.Model) -> Tensor | None:
    if isinstance(model.output, dict) and EMBEDDING in model.output:
        found = model.output[EMBEDDING]
        if len(found.shape) != 2 or found.shape[-1] is None:
            raise ExportError(
                f"Expected the output {EMBEDDING!r} to be of shape (batch, length). Received: {tuple(found.shape)}"
            )
        return found
    layer = next((each for each in model.layers if each.name == FUSED), None)
    return layer.output if layer is not None and len(layer.output.shape) == 2 else None
