"""Runs a model on images and token ids of every kind, before anything is written, to find what shapes don't show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from export.own.reasons import reason, said

__all__ = ["ROUNDING", "is_distribution", "try_out"]

Array = npt.NDArray[Any]
Predict = Callable[[Array, Array], Array]
"""(image, tokens) -> the output, float32 array of shape (batch, classes)."""

ROUNDING: Final = {"float16": 0.02, "bfloat16": 0.1}
"""The relative error of a number computed in half precision; 1e-4 in float32."""


def try_out(
    predict: Predict,
    *,
    size: tuple[int, int],
    token_length: int,
    vocabulary: int | None,
    pad_id: int,
    rounding: float,
    reasons: list[str],
) -> Array | None:
    """The output for six test rows, or None with every reason why the model can't serve them.

    Args:
        predict: The model.
        size: Height and width of the image.
        token_length: Of a row of tokens.
        vocabulary: One more than the largest token id; None if no tokenizer is known.
        pad_id: The id after the text.
        rounding: By how much the same number may differ.
        reasons: Gets the reasons.
    """
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (6, *size, 3), np.uint8)
    largest = pad_id if vocabulary is None else vocabulary - 1
    tokens = draw.integers(0, largest + 1, (6, token_length), np.int32)
    for row in range(3):
        tokens[row, 1 + row * token_length // 3 :] = pad_id
    tokens[3] = largest
    image[4] = 0
    tokens[5] = pad_id  # a text without a token
    try:
        predict(image[:1], tokens[5:])
    except Exception as error:  # a user's own code may raise anything
        reasons.append(reason("the model to run", said(error), "call it in Python with one image and one text"))
        return None
    try:
        whole, again = predict(image, tokens), predict(image, tokens)
        alone = np.concatenate([predict(image[row : row + 1], tokens[row : row + 1]) for row in range(6)])
    except Exception as error:
        fix = "the model must take any number of rows, every token id and a text without tokens"
        if vocabulary is not None:
            fix += f"; its embedding needs {vocabulary} ids, as the tokenizer has, and one for padding"
        reasons.append(reason("the model to run on rows of every kind", said(error), fix))
        return None
    before = len(reasons)
    _check_rows(whole, again, alone, rounding, reasons)
    return whole if len(reasons) == before else None


def _check_rows(whole: Array, again: Array, alone: Array, rounding: float, reasons: list[str]) -> None:
    if not np.isfinite(whole).all():
        what = (*["a usual row"] * 4, "a black image", "a text without tokens")
        rows = [name for name, row in zip(what, whole, strict=True) if not np.isfinite(row).all()]
        fix = "guard averages over no tokens, and softmaxes over masked tokens only"
        reasons.append(reason("numbers, whatever the input", f"NaN or infinity for {rows[0]}", fix))
        return
    allowed = rounding * max(1.0, float(np.abs(whole).max()))
    if (off := float(np.abs(whole - again).max())) > allowed:
        fix = "a layer is called with training=True (dropout?): let Keras pass `training` through"
        reasons.append(reason("the same answer to the same input", f"answers that differ by {off:.2g}", fix))
    elif (off := float(np.abs(whole - alone).max())) > allowed:
        fix = (
            "a layer looks across the batch: BatchNormalization called with training=True, or an operation"
            " on axis 0; requests of several callers share a batch"
        )
        received = f"an answer that differs by {off:.2g} when it is alone"
        reasons.append(reason("a row's answer not to depend on the other rows", received, fix))


def is_distribution(output: Array, rounding: float) -> bool:
    """Whether every row holds probabilities: none below 0, and a sum of 1."""
    return bool((output >= 0).all() and (np.abs(output.sum(axis=-1) - 1) < 10 * rounding).all())
