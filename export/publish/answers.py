"""The computation of a version: an optimised Keras model as one function that all signatures share."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Final

import keras
import tensorflow as tf

from duoserve import contract
from export.errors import ExportError
from export.optimise import Constants, Optimised, optimise
from export.publish.weights import PackedWeights
from export.training.fusion import FUSED

ANSWER: Final = "answer"
EMBEDDING: Final = "embedding"
"""The outputs of a served model: the answer of any kind, and the features for `embed`, where both inputs are joined."""

_ANSWERS: Final = sorted({each.output for each in contract.ANSWERS.values()})

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


def embedding_length(model: keras.Model) -> int:
    """Numbers in a vector of `embed`: the model's output `embedding`, else that of its layer `fused`, which every model
    has that was trained here; 0 without them.

    Raises:
        ExportError: The output `embedding` is not a vector for each row.
    """
    features = _features(model)
    return 0 if features is None else int(features.shape[-1])


def answer_fn(model: keras.Model, spec: contract.PreprocessingSpec) -> Answer:
    """The function of an unchanged Keras model, checked against the spec.

    Raises:
        ExportError: The model's inputs or outputs do not follow the contract.
    """
    model = _with_embedding(model)
    wanted = contract.signatures(spec)[contract.SERVING_DEFAULT]
    received = {tensor.name: tensor for tensor in model.inputs}
    for each in wanted.inputs:
        if each.name not in received:
            raise ExportError(
                f"Expected the model to have an input named {each.name!r}, {each}."
                f" Received inputs: {', '.join(sorted(received))}"
            )
        _check(f"input {each.name!r} to be {each}", each, received.pop(each.name))
    if received:
        raise ExportError(f"Expected the model to have no inputs but image and tokens. Received: {', '.join(received)}")
    _check(f"output to be {wanted.outputs[0]}, one column for each label", wanted.outputs[0], model.output[ANSWER])

    def answer(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = dict(model({"image": image, "tokens": tokens}, training=False))
        if EMBEDDING in outputs:
            outputs[EMBEDDING] = tf.math.l2_normalize(tf.cast(outputs[EMBEDDING], tf.float32), axis=-1)
        return outputs

    return answer


def serve(
    model: keras.Model, spec: contract.PreprocessingSpec, *, weights: str = "float32", as_is: bool = False
) -> Served:
    """Applies the rules of `export.optimise`, unless `as_is`, and packs the weights. The model is not changed.

    Raises:
        ExportError: The model's inputs or outputs do not follow the contract, or its weights can't be packed.
    """
    spec = dataclasses.replace(spec, embedding_length=embedding_length(model))
    whole = _with_embedding(model)
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


def _with_embedding(model: keras.Model) -> keras.Model:
    """The same layers as a model with the outputs ANSWER and, if it has features for `embed`, EMBEDDING."""
    several = model.output if isinstance(model.output, dict) else {ANSWER: model.output}
    found = [several[name] for name in (*_ANSWERS, ANSWER) if hasattr(several.get(name), "shape")]
    if len(found) != 1:
        received = ", ".join(several) if isinstance(model.output, dict) else f"{len(model.outputs)} outputs"
        raise ExportError(
            f"Expected the model to have one output, or one that is named {' or '.join(map(repr, _ANSWERS))}."
            f" Received: {received}"
        )
    features = _features(model)
    embedding = {} if features is None else {EMBEDDING: features}
    return keras.Model(model.input, {ANSWER: found[0], **embedding}, name=model.name)


def _features(model: keras.Model) -> Any:
    """The Keras tensor for `embed`, or None."""
    if isinstance(model.output, dict) and EMBEDDING in model.output:
        found = model.output[EMBEDDING]
        if len(found.shape) != 2 or found.shape[-1] is None:
            raise ExportError(
                f"Expected the output {EMBEDDING!r} to be of shape (batch, length). Received: {tuple(found.shape)}"
            )
        return found
    layer = next((each for each in model.layers if each.name == FUSED), None)
    return layer.output if layer is not None and len(layer.output.shape) == 2 else None


def _check(what: str, expected: contract.TensorSpec, received: Any) -> None:
    dtype = keras.backend.standardize_dtype(received.dtype)
    if dtype != expected.dtype or not tf.TensorShape(received.shape).is_compatible_with(expected.shape):
        raise ExportError(f"Expected the model's {what}. Received: {dtype} array of shape {tuple(received.shape)}")
