"""The computation of a version: an optimised Keras model as one function that all signatures share."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from duoserve import contract
from export.errors import ExportError
from export.optimise import Constants, Optimised, optimise
from export.publish.embedding import ANSWER, EMBEDDING, embedding_length, with_embedding
from export.publish.weights import PackedWeights

__all__ = ["Answer", "Served", "answer_fn", "serve", "tensor_spec"]

Answer = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
"""`(image, tokens)` to ANSWER and, if the model has features for `embed`, EMBEDDING; one row each."""


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """A Keras model as it is served.

    Attributes:
        answer: A `tf.function`, traced once for all signatures, so that weights which are constants are stored once.
        model: The model, optimised unless this was turned off.
        spec: Its preprocessing, with the model's `embedding_length`.
        facts: For the card: which rules were applied to which layers, and where the weights are.
        packed: Its weights, if they are stored in fewer bytes.
    """

    answer: Answer
    model: keras.Model
    spec: contract.PreprocessingSpec
    facts: dict[str, Any]
    packed: PackedWeights | None = None


def answer_fn(model: keras.Model, spec: contract.PreprocessingSpec) -> Answer:
    """The function of an unchanged Keras model, checked against the spec.

    Raises:
        ExportError: The model's inputs or outputs do not follow the contract.
    """
    model = with_embedding(model)
    wanted = contract.signatures(spec)[contract.SERVING_DEFAULT]
    _check_inputs(model, wanted)
    expected, received = wanted.outputs[0], model.output[ANSWER]
    dtype = keras.backend.standardize_dtype(received.dtype)
    if dtype != expected.dtype or not tf.TensorShape(received.shape).is_compatible_with(expected.shape):
        raise ExportError(
            f"Expected the model's output to be {expected}, one column for each label."
            f" Received: {dtype} array of shape {tuple(received.shape)}"
        )

    def answer(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = dict(model({"image": image, "tokens": tokens}, training=False))
        if EMBEDDING in outputs:
            outputs[EMBEDDING] = tf.math.l2_normalize(tf.cast(outputs[EMBEDDING], tf.float32), axis=-1)
        return outputs

    return answer


def serve(
    model: keras.Model, spec: contract.PreprocessingSpec, *, weights: str = "float32", as_is: bool = False
) -> Served:
    """Applies the rules of `export.optimise`, and packs the weights.

    Args:
        model: Inputs `image` and `tokens`, output the answer. It is not changed.
        spec: Its preprocessing.
        weights: "float32", "float16" or "int8".
        as_is: Whether to apply no rule.

    Raises:
        ExportError: The model's inputs or outputs do not follow the contract, or its weights can't be packed.
    """
    spec = dataclasses.replace(spec, embedding_length=embedding_length(model))
    whole = with_embedding(model)
    optimised = Optimised(whole, {}) if as_is else optimise(whole)
    model = optimised.model
    computed = answer_fn(model, spec)
    packed = None if weights == "float32" else PackedWeights(model, weights)
    constants = packed is None and not as_is and Constants.fit(model)
    reading: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    if packed is not None:
        reading = packed.reading
    elif constants:
        reading = Constants(model).reading

    def answer(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        with reading():
            return computed(image, tokens)

    inputs = contract.signatures(spec)[contract.SERVING_DEFAULT].inputs
    shared = tf.function(answer, input_signature=[tensor_spec(each) for each in inputs])
    facts = {"rules": optimised.applied, "weights_in": "constants" if constants else "variables"}
    return Served(shared, model, spec, facts, packed)


def tensor_spec(spec: contract.TensorSpec) -> tf.TensorSpec:
    """The spec in TensorFlow's terms."""
    return tf.TensorSpec(spec.shape, spec.dtype, name=spec.name)


def _check_inputs(model: keras.Model, wanted: contract.SignatureSpec) -> None:
    received = {tensor.name: tensor for tensor in model.inputs}
    for expected in wanted.inputs:
        tensor = received.get(expected.name)
        if tensor is None:
            raise ExportError(
                f"Expected the model to have an input named {expected.name!r}, {expected}."
                f" Received inputs: {', '.join(sorted(received))}"
            )
        if not tf.TensorShape(tensor.shape).is_compatible_with(expected.shape) or (
            keras.backend.standardize_dtype(tensor.dtype) != expected.dtype
        ):
            raise ExportError(
                f"Expected the model's input {expected.name!r} to be {expected}."
                f" Received: {tensor.dtype} array of shape {tuple(tensor.shape)}"
            )
    if extra := sorted(set(received) - {each.name for each in wanted.inputs}):
        raise ExportError(f"Expected the model to have no inputs but image and tokens. Received: {', '.join(extra)}")
