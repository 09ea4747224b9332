"""The contract as a graph: a Keras model and a spec become the signatures of a SavedModel.

Names, dtypes and shapes come from `duoserve.contract`, never from Keras, which would name an
input `keras_tensor_3` and send token ids as float32.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from duoserve import contract
from export.graph.audio import AudioDecoder
from export.graph.images import ImageDecoder
from export.graph.text import GraphTokenizer
from export.publish.answers import ANSWER, EMBEDDING, Served, tensor_spec
from export.publish.explain import explain_fn


def write_saved_model(served: Served, spec: contract.PreprocessingSpec, folder: Path) -> None:
    """Every signature of the contract, as a SavedModel in the folder.

    Not by `keras.export.ExportArchive`, which traces each signature twice.

    Raises:
        OSError: The folder can't be written.
    """

    def predict(image: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        return served.answer(image, tokens)[ANSWER]

    described = spec.to_json()
    functions: dict[str, Callable[..., Any]] = {
        contract.SERVING_DEFAULT: lambda image, tokens: {spec.answer.output: predict(image, tokens)},
        contract.DESCRIBE: lambda key: {"spec": tf.fill(tf.shape(key), described)},
        contract.EMBED: lambda image, tokens: {"embedding": served.answer(image, tokens)[EMBEDDING]},
    }
    saved = tf.Module()
    # Tables of the model's layers. Not the model itself: its variables are no TensorFlow objects in
    # Keras 3, so a Session, which TensorFlow Serving uses, would not find them.
    saved.resources = [
        each
        for each in tf.train.TrackableView(served.model).descendants()
        if isinstance(each, tf.saved_model.experimental.TrackableResource)
    ]
    if spec.serving_bytes:
        tokenize = GraphTokenizer(spec)
        saved.tokenizer = tokenize.resources
        functions[contract.SERVING_BYTES] = _bytes_fn(predict, spec, tokenize)
    if spec.explain_grid is not None:
        functions[contract.EXPLAIN] = explain_fn(predict, spec)
    traced = {}
    for name, signature in contract.signatures(spec).items():
        inputs = [tensor_spec(each) for each in signature.inputs]
        function = tf.function(_of_shapes(name, functions[name], inputs), input_signature=inputs, autograph=False)
        traced[name] = function.get_concrete_function()
    saved.captured = [variable for each in traced.values() for variable in each.variables]
    try:
        tf.saved_model.save(saved, str(folder), signatures=traced)
    except tf.errors.OpError as error:
        # If a write fails, TensorFlow's message has the operating system's reason.
        raise OSError(f"the SavedModel could not be written: {error.message}") from error


def _of_shapes(name: str, function: Callable[..., Any], inputs: list[tf.TensorSpec]) -> Callable[..., Any]:
    """The function, with an error for tensors of another shape.

    TensorFlow Serving does not compare shapes. Without this it answers images of a wrong size, and a
    convolution of a tensor with too few dimensions ends the process of the server.
    """

    @functools.wraps(function)
    def checked(*tensors: tf.Tensor) -> Any:
        return function(*[tf.ensure_shape(each, spec.shape) for each, spec in zip(tensors, inputs, strict=True)])

    checked.__name__ = name  # for the functions of the graph
    return checked


def _bytes_fn(
    predict: Callable[..., tf.Tensor], spec: contract.PreprocessingSpec, tokenize: GraphTokenizer
) -> Callable[..., Any]:
    """`(files, texts) -> outputs` of the signature `serving_bytes`."""
    decode = ImageDecoder(spec) if spec.audio is None else AudioDecoder(spec)

    def prepare(encoded: tf.Tensor, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tokens = tokenize(text)
        if len(spec.optional) < 2:
            return decode(encoded), tokens
        given = (tf.strings.length(encoded) > 0) | tf.reduce_any(tokens != spec.pad_id, axis=-1)
        said = f"Expected {spec.bytes_input}, text or both in each row. Received: neither in one"
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(given), [said])]):
            return decode(encoded), tokens

    def serving_bytes(encoded: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
        values = predict(*prepare(encoded, text))
        return {spec.answer.output: values, **_decided(spec, values)}

    return serving_bytes


def _decided(spec: contract.PreprocessingSpec, values: tf.Tensor) -> dict[str, tf.Tensor]:
    """The decision as a text for each row, by name of the output. Twin of `Answer.decision`."""
    if spec.answer.decided is None:
        return {}
    if not isinstance(spec.answer, contract.Tags):
        return {spec.answer.decided: tf.gather(tf.constant(spec.labels), tf.argmax(values, axis=-1))}
    ended = tf.constant([label + contract.BAR for label in spec.labels])
    joined = tf.strings.reduce_join(tf.where(values >= tf.constant(spec.answer.thresholds), ended, ""), axis=-1)
    return {spec.answer.decided: tf.strings.regex_replace(joined, f"\\{contract.BAR}$", "")}
