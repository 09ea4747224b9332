"""The features where both inputs are joined, as vectors for search and duplicates."""

from __future__ import annotations

from typing import Any, Final

import keras

from export.errors import ExportError
from export.training.fusion import FUSED

__all__ = ["EMBEDDING", "PROBABILITIES", "embedding_length", "with_embedding"]

PROBABILITIES: Final = "probabilities"
EMBEDDING: Final = "embedding"
"""Names of the outputs of a model that has several: the answer, and the features to embed with."""

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


def with_embedding(model: keras.Model) -> keras.Model:
    """The same layers as a model with the outputs `probabilities` and, if it has features to embed with, `embedding`.

    Raises:
        ExportError: Several outputs of which none is called `probabilities`, or one `embedding` of a wrong shape.
    """
    outputs = model.output if isinstance(model.output, dict) else {PROBABILITIES: model.output}
    if not hasattr(outputs.get(PROBABILITIES), "shape"):
        raise ExportError(
            f"Expected the model to have one output, or one that is called {PROBABILITIES!r}."
            f" Received: {', '.join(outputs) if isinstance(model.output, dict) else f'{len(model.outputs)} outputs'}"
        )
    features = _features(model)
    embedding = {} if features is None else {EMBEDDING: features}
    return keras.Model(model.input, {PROBABILITIES: outputs[PROBABILITIES], **embedding}, name=model.name)


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
