"""Tries a model on images and token ids of every kind, before anything is written, to find what shapes don't show:
what its output holds. Adds what makes it the answer of the contract."""

import re
from collections.abc import Callable
from typing import Final

import numpy as np
from keras import layers

from duoserve.contract import ANSWERS, Scores, Tags, YesNo
from export.measures import Array
from export.own.graph import Tensor
from export.own.inputs import Inputs
from export.own.reasons import misfit, said
from export.own.settings import LOGITS, PROBABILITIES
from export.own.tokenizers import Tokenizer

Predict = Callable[[Array, Array], Array]
"""(image, tokens) -> the output, float32 array of shape (batch, classes)."""

ROUNDING: Final = {"float16": 0.02, "bfloat16": 0.1}
"""The relative error of a number computed in half precision; 1e-4 in float32."""

_NO_SUCH_ROW: Final = re.compile(r" = (\d+) is not in \[0, (\d+)\)")
"""TensorFlow's error for an id that an embedding does not have."""


def try_out(predict: Predict, inputs: Inputs, tokenizer: Tokenizer | None, rounding: float) -> Array:
    """The output for six rows, usual and unusual; numbers may differ by `rounding`.

    Raises:
        MisfitError: The model can't serve them.
    """
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (6, inputs.height, inputs.width, 3), np.uint8)
    pad_id = 0 if tokenizer is None else tokenizer.pad_id
    largest = pad_id if tokenizer is None else tokenizer.ids - 1
    tokens = draw.integers(0, largest + 1, (6, inputs.token_length), np.int32)
    for row in range(3):
        tokens[row, 1 + row * inputs.token_length // 3 :] = pad_id
    tokens[3] = largest
    image[4] = 0
    tokens[5] = pad_id  # a text without a token
    try:
        predict(image[:1], tokens[5:])
    except Exception as error:  # a user's own code may raise anything
        if tokenizer is not None:
            _check_embedding(str(error), tokenizer)
        raise misfit("the model to run", said(error), "call it in Python with one image and one text") from error
    try:
        whole, again = predict(image, tokens), predict(image, tokens)
        alone = np.concatenate([predict(image[row : row + 1], tokens[row : row + 1]) for row in range(6)])
    except Exception as error:
        if tokenizer is not None:
            _check_embedding(str(error), tokenizer)
        fix = "the model must take any number of rows, every token id and a text without tokens"
        raise misfit("the model to run on rows of every kind", said(error), fix) from error
    _check_rows(whole, again, alone, rounding)
    return whole


def _check_embedding(message: str, tokenizer: Tokenizer) -> None:
    """Raises MisfitError if a model failed because its embedding has fewer ids than the tokenizer."""
    failed = _NO_SUCH_ROW.search(message)
    needed = max(tokenizer.ids, tokenizer.pad_id + 1)
    if failed is None or not int(failed[2]) <= int(failed[1]) < needed:
        return
    has, ids = int(failed[2]), f"{tokenizer.ids} ids, as the tokenizer has"
    if has >= tokenizer.ids:
        fix = "give --pad-id N, the padding id of the training"
        raise misfit(f"an embedding with the padding id {tokenizer.pad_id}", f"{has} ids, from 0", fix)
    if needed > tokenizer.ids:
        ids += f", and the padding id {tokenizer.pad_id}"
    fix = "give the tokenizer that the model was trained with: the tokenizer or the embedding is another model's"
    raise misfit(f"an embedding of {ids}", f"one of {has} ids", fix)


def activation_of(kind: str, columns: int) -> str | None:
    """What turns logits into an answer of this kind: "softmax" or "sigmoid"; None for scores."""
    if kind == Scores.kind:
        return None
    return "sigmoid" if kind == Tags.kind or columns == 1 else "softmax"


def understood(activation: str | None, declared: str | None, given: str | None, tried: Array, rounding: float) -> str:
    """What the output holds: PROBABILITIES, LOGITS or "numbers".

    Args:
        activation: From `activation_of`.
        declared: What the model declares: "softmax", "sigmoid", LOGITS, or None.
        given: The user's --output-is.
        tried: The output for some rows, float32 array of shape (batch, columns).
        rounding: Largest error of a number.

    Raises:
        MisfitError: It does not fit.
    """
    if activation == "softmax":
        return _exclusive(declared, given, tried, rounding)
    if activation == "sigmoid":
        return _independent(declared, given, tried)
    if given is not None:
        raise misfit("scores, which are used unchanged", f"--output-is {given}", "leave --output-is out")
    return "numbers"


def finish(output: Tensor, activation: str | None, what: str, kind: str) -> Tensor:
    """The answer of the contract, float32 of shape (batch, columns); `what` is from `understood`."""
    name = ANSWERS[kind].output
    both = kind == YesNo.kind and output.shape[1] == 1  # the probability of "yes", to which that of "no" is added
    named = f"{name}_yes" if both else name
    options = {"dtype": "float32", "name": named}
    yes = (layers.Activation(activation, **options) if what == LOGITS else layers.Identity(**options))(output)
    if not both:
        return yes
    no = layers.Rescaling(-1.0, offset=1.0, dtype="float32", name=f"{name}_no")(yes)
    return layers.Concatenate(dtype="float32", name=name)([no, yes])


def _check_rows(whole: Array, again: Array, alone: Array, rounding: float) -> None:
    if not np.isfinite(whole).all():
        what = (*["a usual row"] * 4, "a black image", "a text without tokens")
        rows = [name for name, row in zip(what, whole, strict=True) if not np.isfinite(row).all()]
        fix = "guard averages over no tokens, and softmaxes over masked tokens only"
        raise misfit("numbers, whatever the input", f"NaN or infinity for {rows[0]}", fix)
    allowed = rounding * max(1.0, float(np.abs(whole).max()))
    if (off := float(np.abs(whole - again).max())) > allowed:
        fix = "a layer is called with training=True (dropout?): let Keras pass `training` through"
        raise misfit("the same answer to the same input", f"answers that differ by {off:.2g}", fix)
    if (off := float(np.abs(whole - alone).max())) > allowed:
        fix = (
            "a layer looks across the batch: BatchNormalization called with training=True, or an operation"
            " on axis 0; requests of several callers share a batch"
        )
        received = f"an answer that differs by {off:.2g} when it is alone"
        raise misfit("a row's answer not to depend on the other rows", received, fix)


def _exclusive(declared: str | None, given: str | None, tried: Array, rounding: float) -> str:
    """Of columns that exclude one another: a softmax."""
    sums = tried.sum(axis=-1)
    adds_up = bool((tried >= 0).all() and (np.abs(sums - 1) < 10 * rounding).all())
    unequal = f"rows that add up to {sums[np.abs(sums - 1).argmax()]:.4g}"
    expected = "the output to be probabilities that add up to 1, or logits"
    fix = "give --output-is logits if they come before the softmax"
    if given == LOGITS and adds_up:
        fix = "leave --output-is out: a second softmax would make every answer less sure"
        raise misfit("logits, as given by --output-is", "rows that are probabilities already", fix)
    if given is not None or declared in ("softmax", LOGITS):
        if adds_up or (given or declared) == LOGITS:
            return given or (LOGITS if declared == LOGITS else PROBABILITIES)
        raise misfit(expected, unequal, fix)
    if declared == "sigmoid":
        fix = "give --answer tags if several can be right at once; labels that exclude one another take a softmax"
        raise misfit(expected, "a sigmoid for each label", fix)
    if adds_up:
        return PROBABILITIES
    raise misfit(expected, f"{unequal}, and no softmax in the last layer", fix)


def _independent(declared: str | None, given: str | None, tried: Array) -> str:
    """Of columns with a probability each: a sigmoid."""
    expected = "each column of the output to be a probability, or a logit"
    if declared == "softmax" and given is None:
        fix = "leave --answer out if the labels exclude one another; tags take a sigmoid each"
        raise misfit(expected, "a softmax over all columns", fix)
    if given == LOGITS and declared == "sigmoid":
        fix = "leave --output-is out: a second sigmoid would make every answer less sure"
        raise misfit("logits, as given by --output-is", "a sigmoid", fix)
    if LOGITS in (given, declared) and given != PROBABILITIES:
        return LOGITS
    if not ((tried >= 0) & (tried <= 1)).all():
        fix = "give --output-is logits if they come before the sigmoid"
        raise misfit(expected, f"{tried.flat[np.abs(tried - 0.5).argmax()]:.4g}", fix)
    if given or declared:
        return PROBABILITIES
    fix = "give --output-is probabilities, or --output-is logits if they come before the sigmoid"
    raise misfit(expected, "numbers from 0 to 1, and no sigmoid in the last layer", fix)
