"""What a model's output holds, by kind of answer, and what is added to make it the contract's."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from duoserve.contract import OneClass, Scores, Tags, YesNo
from export.own.reasons import reason
from export.own.settings import LOGITS, PROBABILITIES
from export.own.trial import Array, is_distribution

__all__ = ["Finish", "finish_for"]

Tensor = Any  # keras.KerasTensor: keras has no types to check against


class Finish:
    """One kind of output columns. Base class.

    Attributes:
        activation: Turns logits into probabilities.
    """

    activation = ""

    def understood(
        self, declared: str | None, given: str | None, tried: Array, rounding: float, reasons: list[str]
    ) -> str | None:
        """What the output holds: PROBABILITIES, LOGITS or "numbers"; None with the reason if it does not fit.

        Args:
            declared: What the model declares: "softmax", "sigmoid", LOGITS, or None.
            given: The user's --output-is.
            tried: The output for some rows, float32 array of shape (batch, columns).
            rounding: Largest error of a number.
            reasons: Gets the reason.
        """
        raise NotImplementedError

    def finish(self, output: Tensor, what: str, name: str) -> Tensor:
        """The answer of the contract, float32 of shape (batch, columns).

        Args:
            output: The model's.
            what: From `understood`.
            name: Of the answer.
        """
        if what == LOGITS:
            return layers.Activation(self.activation, dtype="float32", name=name)(output)
        return layers.Identity(dtype="float32", name=name)(output)


class Exclusive(Finish):
    """Columns that exclude one another: a softmax."""

    activation = "softmax"

    def understood(
        self, declared: str | None, given: str | None, tried: Array, rounding: float, reasons: list[str]
    ) -> str | None:
        adds_up = is_distribution(tried, rounding)
        expected = "the output to be probabilities that add up to 1, or logits"
        if given == LOGITS and adds_up:
            fix = "leave --output-is out: a second softmax would make every answer less sure"
            reasons.append(reason("logits, as given by --output-is", "rows that are probabilities already", fix))
        elif given is not None or declared in ("softmax", LOGITS):
            if adds_up or (given or declared) == LOGITS:
                return given or (LOGITS if declared == LOGITS else PROBABILITIES)
            worst = tried.sum(axis=-1)[np.abs(tried.sum(axis=-1) - 1).argmax()]
            fix = "give --output-is logits if they come before the softmax"
            reasons.append(reason(expected, f"rows that add up to {worst:.4g}", fix))
        elif declared == "sigmoid":
            fix = "give --answer tags if several can be right at once; labels that exclude one another take a softmax"
            reasons.append(reason(expected, "a sigmoid for each label", fix))
        elif adds_up:
            return PROBABILITIES
        else:
            fix = "give --output-is logits if they come before the softmax"
            reasons.append(reason(expected, "numbers that do not add up to 1, from a layer without an activation", fix))
        return None


class Independent(Finish):
    """Columns with a probability each: a sigmoid."""

    activation = "sigmoid"

    def understood(
        self, declared: str | None, given: str | None, tried: Array, rounding: float, reasons: list[str]
    ) -> str | None:
        between = bool(((tried >= 0) & (tried <= 1)).all())
        expected = "each column of the output to be a probability, or a logit"
        if declared == "softmax" and given is None:
            fix = "leave --answer out if the labels exclude one another; tags take a sigmoid each"
            reasons.append(reason(expected, "a softmax over all columns", fix))
        elif given == LOGITS and declared == "sigmoid":
            fix = "leave --output-is out: a second sigmoid would make every answer less sure"
            reasons.append(reason("logits, as given by --output-is", "a sigmoid", fix))
        elif LOGITS in (given, declared) and given != PROBABILITIES:
            return LOGITS
        elif between and (given or declared):
            return PROBABILITIES
        elif between:
            fix = "give --output-is probabilities, or --output-is logits if they come before the sigmoid"
            reasons.append(reason(expected, "numbers from 0 to 1, from a layer without an activation", fix))
        else:
            worst = tried.flat[np.abs(tried - 0.5).argmax()]
            fix = "give --output-is logits if they come before the sigmoid"
            reasons.append(reason(expected, f"{worst:.4g}", fix))
        return None


class OneColumn(Independent):
    """The probability of "yes", to which that of "no" is added."""

    def finish(self, output: Tensor, what: str, name: str) -> Tensor:
        yes = super().finish(output, what, f"{name}_yes")
        no = layers.Rescaling(-1.0, offset=1.0, dtype="float32", name=f"{name}_no")(yes)
        return layers.Concatenate(dtype="float32", name=name)([no, yes])


class Numbers(Finish):
    """Scores: used unchanged."""

    def understood(
        self, declared: str | None, given: str | None, tried: Array, rounding: float, reasons: list[str]
    ) -> str | None:
        if given is None:
            return "numbers"
        reasons.append(reason("scores, which are used unchanged", f"--output-is {given}", "leave --output-is out"))
        return None


def finish_for(kind: str, columns: int | None) -> Finish:
    """How columns are an answer of this kind."""
    if kind == YesNo.kind and columns == 1:
        return OneColumn()
    return {OneClass.kind: Exclusive, YesNo.kind: Exclusive, Tags.kind: Independent, Scores.kind: Numbers}[kind]()
