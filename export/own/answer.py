"""Calls a model with the inputs of the contract, tries it, and adapts its output to the contract."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from duoserve.contract import ANSWERS, OneClass, YesNo
from export.own.features import find_features
from export.own.finishing import Finish, finish_for
from export.own.graph import functional
from export.own.inputs import Inputs
from export.own.outputs import check_output, declared_kind, pick_output
from export.own.reasons import reason, said
from export.own.scaling import scale
from export.own.settings import OwnModel
from export.own.tokenizers import Tokenizer
from export.own.trial import ROUNDING, Array, Predict, try_out
from export.publish.embedding import EMBEDDING

__all__ = ["Answer", "adapt", "find_answer", "predictor"]

Tensor = Any  # keras.KerasTensor: keras has no types to check against


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The output of a model that is called with the inputs of the contract.

    Attributes:
        image: The input.
        tokens: The input.
        output: The output.
        name: Name of the output in the model.
        kind: Kind of answer, a key of `duoserve.contract.ANSWERS`.
        what: What the output holds, from `Finish.understood`.
        finish: How it becomes the answer of the contract.
        features: Output of the layer for `embed`; None if no layer was named.
    """

    image: Tensor
    tokens: Tensor
    output: Tensor
    name: str
    kind: str
    what: str
    finish: Finish
    features: Tensor | None = None


def find_answer(
    model: keras.Model,
    inputs: Inputs | None,
    own: OwnModel,
    reasons: list[str],
    *,
    kind: str,
    labels: int | None,
    ids: Tokenizer | None,
) -> Answer | None:
    """Calls the model, tries it, and detects what its output holds; None with the reasons if it can't be served.

    Args:
        model: Not changed.
        inputs: How it is called; None if that is not known: then it is only inspected.
        own: The user's options for its output.
        reasons: Gets the reasons.
        kind: Kind of answer, detected from the samples; one column of two classes means yes or no.
        labels: Number of labels; None if unknown.
        ids: The tokenizer; None if unknown.
    """
    before = len(reasons)
    if inputs is None:
        graph = functional(model)
        if graph is not None and (picked := pick_output(model, graph.output, own, reasons)):
            check_output(*picked, _kind(kind, own, picked[1], labels), labels, reasons)
        return None
    image = keras.Input((inputs.height, inputs.width, 3), dtype="uint8", name="image")
    tokens = keras.Input((inputs.token_length,), dtype="int32", name="tokens")
    pixels = keras.ops.cast(scale(image, inputs.scale), inputs.image_dtype)
    if ids is not None:
        inputs.check_padding(ids, reasons)
    given = inputs.given(pixels, tokens, 0 if ids is None else ids.pad_id)
    try:
        outputs = inputs.call(*given.values())
    except Exception as error:  # the user's code may raise anything
        fix = "call it in Python with keras.Input tensors to see where it fails"
        reasons.append(reason(f"the model to take {inputs.image!r} and {inputs.tokens!r}", said(error), fix))
        return None
    picked = pick_output(model, outputs, own, reasons)
    if picked is None:
        return None
    name, tensor = picked
    kind = _kind(kind, own, tensor, labels)
    check_output(name, tensor, kind, labels, reasons)
    features = None if own.embed is None else find_features(model, given, own, reasons)
    if len(reasons) > before:
        return None
    output = keras.ops.cast(tensor, "float32")
    rounding = max((ROUNDING.get(layer.compute_dtype, 1e-4) for layer in model._flatten_layers()), default=1e-4)
    tried = try_out(
        predictor(keras.Model({"image": image, "tokens": tokens}, output)),
        size=(inputs.height, inputs.width),
        token_length=inputs.token_length,
        vocabulary=None if ids is None else ids.ids,
        pad_id=0 if ids is None else ids.pad_id,
        rounding=rounding,
        reasons=reasons,
    )
    if tried is None:
        return None
    finish = finish_for(kind, tensor.shape[1])
    what = finish.understood(declared_kind(name, tensor), own.output_is, tried, rounding, reasons)
    return None if what is None else Answer(image, tokens, output, name, kind, what, finish, features)


def _kind(kind: str, own: OwnModel, tensor: Tensor, labels: int | None) -> str:
    looks_like_yes_no = kind == OneClass.kind and own.answer is None and tensor.shape[-1] == 1 and labels == 2
    return YesNo.kind if looks_like_yes_no else kind


def adapt(answer: Answer) -> keras.Model:
    """The model of the contract: inputs `image` and `tokens`, outputs the answer and, if there is one, `embedding`."""
    name = ANSWERS[answer.kind].output
    outputs = finished = answer.finish.finish(answer.output, answer.what, name)
    if answer.features is not None:
        outputs = {name: finished, EMBEDDING: keras.ops.cast(answer.features, "float32")}
    return keras.Model({"image": answer.image, "tokens": answer.tokens}, outputs, name="own")


def predictor(model: keras.Model) -> Predict:
    """Runs a model of the contract's inputs on arrays, as a graph for any number of rows: its answer."""
    if isinstance(model.output, dict):
        (answer,) = (tensor for name, tensor in model.output.items() if name != EMBEDDING)
        model = keras.Model(model.input, answer)
    signature = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in model.input.items()}
    run = tf.function(lambda inputs: model(inputs, training=False), input_signature=[signature])

    def predict(image: Array, tokens: Array) -> Array:
        return run({"image": tf.constant(image), "tokens": tf.constant(tokens)}).numpy()  # type: ignore[no-any-return]

    return predict
