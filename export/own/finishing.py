"""What a model's output is, by kind of answer, and what is put behind it to make it the contract's."""

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
    """One way in which columns are an answer. Base of the ways.

    Attributes:
        activation: What makes probabilities of logits.
    """

    activation = ""

    def understood(
        self, declared: str | None, given: str | None, tried: Array, rounding: float, reasons: list[str]
    ) -> str | None:
        """What the output is, PROBABILITIES, LOGITS or "numbers"; None with the reason why it does not fit.

        Args:
            declared: What the model says: "softmax", "sigmoid", LOGITS, or None.
            given: What the user says, by --output-is.
            tried: The output for some rows, float32 array of shape (batch, columns).
            rounding: By how much a number may be off.
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
            mend = "leave --output-is out: a second softmax would make every answer less sure"
            reasons.append(reason("logits, as --output-is says", "rows that are probabilities already", mend))
        elif given is not None or declared in ("softmax", LOGITS):
            if adds_up or (given or declared) == LOGITS:
                return given or (LOGITS if declared == LOGITS else PROBABILITIES)
            worst = tried.sum(axis=-1)[np.abs(tried.sum(axis=-1) - 1).argmax()]
            mend = "give --output-is logits if they come before the softmax"
            reasons.append(reason(expected, f"rows that add up to {worst:.4g}", mend))
        elif declared == "sigmoid":
            mend = "give --answer tags if several can be right at once; labels that exclude one another take a softmax"
            reasons.append(reason(expected, "a sigmoid for each label", mend))
        elif adds_up:
            return PROBABILITIES
        else:
            mend = "give --output-is logits if they come before the softmax"
            reasons.append(reason(expected, "numbers that do not add up to 1, of a layer that says nothing", mend))
        return None


class Independent(Finish):
    """Columns that have a probability each: a sigmoid."""

    activation = "sigmoid"

    def understood(
        self, declared: str | None, given: str | None, tried: Array, rounding: float, reasons: list[str]
    ) -> str | None:
        between = bool(((tried >= 0) & (tried <= 1)).all())
        expected = "each column of the output to be a probability, or a logit"
        if declared == "softmax" and given is None:
            mend = "leave --answer out if the labels exclude one another; tags take a sigmoid each"
            reasons.append(reason(expected, "a softmax over all columns", mend))
        elif given == LOGITS and declared == "sigmoid":
            mend = "leave --output-is out: a second sigmoid would make every answer less sure"
            reasons.append(reason("logits, as --output-is says", "a sigmoid", mend))
        elif LOGITS in (given, declared) and given != PROBABILITIES:
            return LOGITS
        elif between and (given or declared):
            return PROBABILITIES
        elif between:
            mend = "give --output-is probabilities, or --output-is logits if they come before the sigmoid"
            reasons.append(reason(expected, "numbers from 0 to 1, of a layer that says nothing", mend))
        else:
            worst = tried.flat[np.abs(tried - 0.5).argmax()]
            mend = "give --output-is logits if they come before the sigmoid"
            reasons.append(reason(expected, f"{worst:.4g}", mend))
        return None


class OneColumn(Independent):
    """The probability of "yes", to which that of "no" is added."""

    def finish(self, output: Tensor, what: str, name: str) -> Tensor:
        yes = super().finish(output, what, f"{name}_yes")
        no = layers.Rescaling(-1.0, offset=1.0, dtype="float32", name=f"{name}_no")(yes)
        return layers.Concatenate(dtype="float32", name=name)([no, yes])


class Numbers(Finish):
    """Scores: taken as they are."""

    def understood(
        self, declared: str | None, given: str | None, tried: Array, rounding: float, reasons: list[str]
    ) -> str | None:
        if given is None:
            return "numbers"
        reasons.append(reason("scores as they are", f"--output-is {given}", "leave --output-is out"))
        return None


def finish_for(kind: str, columns: int | None) -> Finish:
    """How columns are an answer of this kind."""
    if kind == YesNo.kind and columns == 1:
        return OneColumn()
    return {OneClass.kind: Exclusive, YesNo.kind: Exclusive, Tags.kind: Independent, Scores.kind: Numbers}[kind]()
