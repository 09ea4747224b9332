"""Calls a model with the inputs of the contract, tries it, and adapts its output to the contract."""

import dataclasses
from typing import Any, Final

import keras
import tensorflow as tf

from duoserve.contract import ANSWERS, OneClass, YesNo
from export.measures import Array
from export.own.calling import find_calling
from export.own.finishing import ROUNDING, Predict, activation_of, finish, try_out, understood
from export.own.graph import Tensor, functional
from export.own.inputs import Inputs
from export.own.outputs import check_output, declared_kind, find_features, pick_output
from export.own.reasons import Reasons, misfit, said
from export.own.scaling import scale
from export.own.settings import LOGITS, OwnModel
from export.own.tokenizers import Tokenizer
from export.publish.answers import EMBEDDING

_INNER: Final = "inner"
"""The user's model in the adapted one, whose other layers have names too: Keras refuses equal ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A model that is called with the inputs of the contract, and its answer.

    Attributes:
        model: Inputs `image` and `tokens`, outputs the answer of the contract and, with `--embed`, `embedding`.
        kind: Kind of answer, a key of `duoserve.contract.ANSWERS`.
        name: Name of the output in the user's model.
        what: What that output holds, from `finishing.understood`.
        follows: The activation that was added; None for none.
        embedded: Length of `embedding`; 0 without it.
    """

    model: keras.Model
    kind: str
    name: str
    what: str
    follows: str | None
    embedded: int


def find_answer(
    model: keras.Model,
    inputs: Inputs | None,
    own: OwnModel,
    *,
    kind: str | None,
    labels: int | None,
    ids: Tokenizer | None,
) -> Answer | None:
    """Calls the model, tries it, detects what its output holds, and adapts it. The model gets another name.

    Args:
        model: The model.
        inputs: How it is called; None if that is not known: then it is only inspected, and nothing is returned.
        own: The user's options.
        kind: Kind of answer, detected from the samples; one column of two classes means yes or no. None if it is
            not known: then the model is only tried, and nothing is returned.
        labels: Number of labels; None if unknown.
        ids: The tokenizer; None if unknown.

    Raises:
        MisfitError: It can't be served.
    """
    if inputs is None:
        graph = functional(model)
        if graph is not None:
            name, tensor = pick_output(model, graph.output, own)
            check_output(name, tensor, _kind(kind, own, tensor, labels), labels)
        return None
    reasons = Reasons()
    image = keras.Input((inputs.height, inputs.width, 3), dtype="uint8", name="image")
    tokens = keras.Input((inputs.token_length,), dtype="int32", name="tokens")
    pixels = keras.ops.cast(scale(image, inputs.scale), inputs.image_dtype)
    if ids is not None:
        reasons.attempt(inputs.check_padding, ids)
    given = inputs.given(pixels, tokens, 0 if ids is None else ids.pad_id)
    layer = None if own.embed is None else reasons.attempt(find_features, model, own)
    outputs, features = _called(model, layer, inputs, given, own)
    picked = reasons.attempt(pick_output, model, outputs, own)
    if picked is not None:
        kind = _kind(kind, own, picked[1], labels)
        reasons.attempt(check_output, *picked, kind, labels)
    reasons.refuse()
    assert picked is not None
    name, tensor = picked
    output = keras.ops.cast(tensor, "float32")
    rounding = max((ROUNDING.get(layer.compute_dtype, 1e-4) for layer in model._flatten_layers()), default=1e-4)
    asked = {"image": image, "tokens": tokens}
    tried = try_out(predictor(keras.Model(asked, output)), inputs, ids, rounding)
    if kind is None:
        return None
    activation = activation_of(kind, tensor.shape[1])
    what = understood(activation, declared_kind(name, tensor), own.output_is, tried, rounding)
    adapted = finished = finish(output, activation, what, kind)
    if features is not None:
        adapted = {ANSWERS[kind].output: finished, EMBEDDING: keras.ops.cast(features, "float32")}
    follows = activation if what == LOGITS else None
    embedded = 0 if features is None else features.shape[-1]
    return Answer(keras.Model(asked, adapted, name="own"), kind, name, what, follows, embedded)


def _called(
    model: keras.Model, layer: Tensor | None, inputs: Inputs, given: dict[str, Tensor], own: OwnModel
) -> tuple[Any, Tensor | None]:
    """The model's outputs, and the output of `layer`, a tensor of the model, from the same call."""
    call, model.name = inputs.call, _INNER
    if layer is not None:
        graph = functional(model)
        assert graph is not None
        both = keras.Model(graph.input, {"outputs": graph.output, "features": layer}, name=_INNER)
        call = find_calling(both, own)[1]
    try:
        found = call(*given.values())
        return (found, None) if layer is None else (found["outputs"], found["features"])
    except Exception as error:  # the user's code may raise anything
        fix = "call it in Python with keras.Input tensors to see where it fails"
        raise misfit(f"the model to take {inputs.image!r} and {inputs.tokens!r}", said(error), fix) from error


def _kind(kind: str | None, own: OwnModel, tensor: Tensor, labels: int | None) -> str | None:
    looks_like_yes_no = kind == OneClass.kind and own.answer is None and tensor.shape[-1] == 1 and labels == 2
    return YesNo.kind if looks_like_yes_no else kind


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
