"""The features where both inputs are joined, as vectors for search and duplicates."""

from __future__ import annotations

from typing import Any, Final

import keras

from duoserve.contract import ANSWERS
from export.errors import ExportError
from export.training.fusion import FUSED

__all__ = ["ANSWER", "EMBEDDING", "embedding_length", "with_embedding"]

ANSWER: Final = "answer"
EMBEDDING: Final = "embedding"
"""The outputs of `with_embedding`: the answer of any kind, and the features for `embed`."""

_ANSWERS: Final = (*sorted({each.output for each in ANSWERS.values()}), ANSWER)
"""Names of the answer in a model of several outputs."""

Tensor = Any  # keras.KerasTensor: keras has no types to check against


def embedding_length(model: keras.Model) -> int:
    """Numbers in a vector; 0 if the features are not known.

    They are the model's output `embedding`, else the output of its layer `fused`, which every
    model has that was trained here.

    Raises:
        ExportError: The output `embedding` is not a vector for each row.
    """
    features = _features(model)
    return 0 if features is None else int(features.shape[-1])


def with_embedding(model: keras.Model) -> keras.Model:
    """The same layers as a model with the outputs ANSWER and, if it has features for `embed`, EMBEDDING.

    Raises:
        ExportError: Several outputs, none with the name of an answer in the contract, or an output `embedding`
            of the wrong shape.
    """
    several = model.output if isinstance(model.output, dict) else {ANSWER: model.output}
    found = [several[name] for name in _ANSWERS if hasattr(several.get(name), "shape")]
    if len(found) != 1:
        received = ", ".join(several) if isinstance(model.output, dict) else f"{len(model.outputs)} outputs"
        raise ExportError(
            f"Expected the model to have one output, or one that is named {' or '.join(map(repr, _ANSWERS[:-1]))}."
            f" Received: {received}"
        )
    features = _features(model)
    embedding = {} if features is None else {EMBEDDING: features}
    return keras.Model(model.input, {ANSWER: found[0], **embedding}, name=model.name)


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
