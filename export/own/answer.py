"""Calls a model with the inputs of the contract, tries it, and puts what it answers behind the contract's output."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.own.features import find_features
from export.own.graph import functional
from export.own.inputs import Inputs
from export.own.outputs import check_output, declared_kind, pick_output
from export.own.reasons import reason, said
from export.own.scaling import scale
from export.own.settings import ANSWERS, OwnModel
from export.own.tokenizers import Tokenizer
from export.own.trial import ROUNDING, Array, Predict, is_distribution, try_out
from export.publish.embedding import EMBEDDING

__all__ = ["Answer", "adapt", "find_answer", "predictor"]

Tensor = Any  # keras.KerasTensor: keras has no types to check against


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The output of a model that is called with the inputs of the contract; `kind` is one of ANSWERS.

    `features` is what the layer gives that is to be embedded with; None where none was named.
    """

    image: Tensor
    tokens: Tensor
    output: Tensor
    name: str
    kind: str
    features: Tensor | None = None


def find_answer(
    model: keras.Model,
    inputs: Inputs | None,
    own: OwnModel,
    reasons: list[str],
    *,
    classes: int | None,
    ids: Tokenizer | None,
) -> Answer | None:
    """Calls the model, tries it, and finds out what its output is; None with the reasons why it can't be served.

    Args:
        model: Not changed.
        inputs: How it is called; None where that is not known: then it is only looked at.
        own: What the user says of its output.
        reasons: Gets the reasons.
        classes: Number of labels; None where no labels are known.
        ids: The tokenizer; None where none is known.
    """
    before = len(reasons)
    if inputs is None:
        graph = functional(model)
        if graph is not None and (picked := pick_output(model, graph.output, own, reasons)):
            check_output(*picked, classes, reasons)
        return None
    image = keras.Input((inputs.height, inputs.width, 3), dtype="uint8", name="image")
    tokens = keras.Input((inputs.token_length,), dtype="int32", name="tokens")
    pixels = keras.ops.cast(scale(image, inputs.scale), inputs.image_dtype)
    if ids is not None:
        inputs.check_padding(ids, reasons)
    given = inputs.given(pixels, tokens, 0 if ids is None else ids.pad_id)
    try:
        outputs = inputs.call(*given.values())
    except Exception as error:  # a user's own code may raise anything
        mend = "call it in Python with keras.Input tensors to see where it fails"
        reasons.append(reason(f"the model to take {inputs.image!r} and {inputs.tokens!r}", said(error), mend))
        return None
    picked = pick_output(model, outputs, own, reasons)
    if picked is None:
        return None
    name, tensor = picked
    check_output(name, tensor, classes, reasons)
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
    kind = _kind(declared_kind(name, tensor), own, tried, rounding, reasons)
    return None if kind is None else Answer(image, tokens, output, name, kind, features)


def _kind(declared: str | None, own: OwnModel, tried: Array, rounding: float, reasons: list[str]) -> str | None:
    """One of ANSWERS: what the user says, else what the model says, else what the numbers are."""
    adds_up = is_distribution(tried, rounding)
    expected = "the output to be probabilities that add up to 1, or logits"
    if own.output_is == "logits" and adds_up:
        mend = "leave --output-is out: a second softmax would make every answer less sure"
        reasons.append(reason("logits, as --output-is says", "rows that are probabilities already", mend))
    elif own.output_is is not None or declared in ANSWERS:
        kind = own.output_is or declared
        if kind == "logits" or adds_up:
            return kind
        worst = tried.sum(axis=-1)[np.abs(tried.sum(axis=-1) - 1).argmax()]
        mend = "give --output-is logits if they come before the softmax"
        reasons.append(reason(expected, f"rows that add up to {worst:.4g}", mend))
    elif declared == "sigmoid":
        mend = "labels that exclude one another take a softmax; several at once are outside the contract"
        reasons.append(reason(expected, "a sigmoid for each label", mend))
    elif adds_up:
        return "probabilities"
    else:
        mend = "give --output-is logits if they come before the softmax"
        reasons.append(reason(expected, "numbers that do not add up to 1, of a layer that says nothing", mend))
    return None


def adapt(answer: Answer) -> keras.Model:
    """The model of the contract: inputs `image` and `tokens`, output `probabilities`, and `embedding` if it has one."""
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    as_is = keras.layers.Identity(dtype="float32", name="probabilities")
    probabilities = (softmax if answer.kind == "logits" else as_is)(answer.output)
    outputs = probabilities
    if answer.features is not None:
        outputs = {"probabilities": probabilities, EMBEDDING: keras.ops.cast(answer.features, "float32")}
    return keras.Model({"image": answer.image, "tokens": answer.tokens}, outputs, name="own")


def predictor(model: keras.Model) -> Predict:
    """Runs a model of the contract's inputs on arrays, as a graph for any number of rows: its probabilities."""
    if isinstance(model.output, dict):
        model = keras.Model(model.input, model.output["probabilities"])
    signature = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in model.input.items()}
    run = tf.function(lambda inputs: model(inputs, training=False), input_signature=[signature])

    def predict(image: Array, tokens: Array) -> Array:
        return run({"image": tf.constant(image), "tokens": tf.constant(tokens)}).numpy()  # type: ignore[no-any-return]

    return predict
