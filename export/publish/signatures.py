"""The contract as a graph: a Keras model and a spec become the signatures of a SavedModel.

Names, dtypes and shapes come from `duoserve.contract`, never from Keras, which would call an
input `keras_tensor_3` and send token ids as float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from duoserve import contract
from export.errors import ExportError
from export.graph.audio import AudioDecoder
from export.graph.preprocessing import ImageDecoder
from export.graph.text import GraphTokenizer
from export.publish.embedding import embed_fn
from export.publish.explain import explain_fn
from export.publish.weights import PackedWeights, Predict, served

__all__ = ["build_archive", "predict_fn"]


def predict_fn(model: keras.Model, spec: contract.PreprocessingSpec) -> Predict:
    """`(image, tokens) -> probabilities` of a Keras model, checked against the spec.

    Raises:
        ExportError: The model's inputs or output are not those of the contract.
    """
    wanted = contract.signatures(spec)[contract.SERVING_DEFAULT]
    _check_inputs(model, wanted)

    def predict(image: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        outputs = model({"image": image, "tokens": tokens}, training=False)
        return outputs["probabilities"] if isinstance(outputs, dict) else outputs

    probabilities = tf.function(predict).get_concrete_function(*map(_tensor_spec, wanted.inputs)).structured_outputs
    expected = wanted.outputs[0]
    if probabilities.dtype.name != expected.dtype or not probabilities.shape.is_compatible_with(expected.shape):
        raise ExportError(
            f"Expected the model's output to be {expected}, one column a label."
            f" Received: {probabilities.dtype.name} array of shape {tuple(probabilities.shape)}"
        )
    return predict


def build_archive(
    model: keras.Model, spec: contract.PreprocessingSpec, packed: PackedWeights | None = None
) -> keras.export.ExportArchive:
    """Every signature of the contract, ready for `write_out`.

    `ExportArchive`, because what `tf.saved_model.save` makes of a Keras 3 model loads in Python
    but not in a Session, which is what TensorFlow Serving uses.

    Args:
        model: Inputs `image` and `tokens`, output the probabilities.
        spec: Its preprocessing.
        packed: Its weights, where they are not stored as they are.

    Raises:
        ExportError: The model's inputs or output are not those of the contract.
    """
    predict = served(predict_fn(model, spec), packed)
    described = spec.to_json()

    def serving_default(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": predict(image, tokens)}

    def describe(key: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"spec": tf.fill(tf.shape(key), described)}

    functions: dict[str, Callable[..., Any]] = {
        contract.SERVING_DEFAULT: serving_default,
        contract.DESCRIBE: describe,
    }
    tracked = [model]
    if spec.serving_bytes:
        tokenize = GraphTokenizer(spec)
        tracked.append(tokenize.resources)
        functions[contract.SERVING_BYTES] = _bytes_fn(predict, spec, tokenize)
    if spec.embedding_length:
        embed = served(embed_fn(model), packed)
        functions[contract.EMBED] = lambda image, tokens: {"embedding": embed(image, tokens)}
    if spec.explain_grid is not None:
        functions[contract.EXPLAIN] = explain_fn(predict, spec)
    archive = keras.export.ExportArchive()
    # Tables and assets are found through a module: of a model itself, Keras would store every
    # variable a second time, beside those that the signatures read.
    resources = tf.Module()
    resources.all = tracked
    archive.track(resources)
    for name, signature in contract.signatures(spec).items():
        archive.add_endpoint(name, functions[name], input_signature=[_tensor_spec(each) for each in signature.inputs])
    return archive


def _bytes_fn(predict: Predict, spec: contract.PreprocessingSpec, tokenize: GraphTokenizer) -> Callable[..., Any]:
    """`(files, texts) -> outputs` of the signature `serving_bytes`."""
    decode = ImageDecoder(spec) if spec.audio is None else AudioDecoder(spec)
    labels = tf.constant(spec.labels)

    def prepare(encoded: tf.Tensor, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tokens = tokenize(text)
        if len(spec.optional) < 2:
            return decode(encoded), tokens
        given = (tf.strings.length(encoded) > 0) | tf.reduce_any(tokens != spec.pad_id, axis=-1)
        said = f"Expected {spec.bytes_input}, text or both in each row. Received: neither in one"
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(given), [said])]):
            return decode(encoded), tokens

    def serving_bytes(encoded: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = predict(*prepare(encoded, text))
        return {"probabilities": probabilities, "label": tf.gather(labels, tf.argmax(probabilities, axis=-1))}

    return serving_bytes


def _tensor_spec(spec: contract.TensorSpec) -> tf.TensorSpec:
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
