"""Finds the answer among a model's outputs, and what the model declares about it."""

from __future__ import annotations

from typing import Any

import keras

from duoserve.contract import ANSWERS, OneClass, YesNo
from export.own.calling import shown
from export.own.graph import producer
from export.own.reasons import reason
from export.own.settings import LOGITS, OwnModel

__all__ = ["check_output", "declared_kind", "pick_output"]

Tensor = Any  # keras.KerasTensor: keras has no types to check against


def pick_output(model: keras.Model, outputs: Any, own: OwnModel, reasons: list[str]) -> tuple[str, Tensor] | None:
    """Name and tensor of the output with the answer, or None with the reason.

    Args:
        model: Gives the names of outputs, if it is a graph of layers.
        outputs: Its outputs for symbolic inputs: a tensor, or a list or dict of tensors.
    """
    named = _named(model, outputs)
    if own.output is None and len(named) == 1:
        return named[0]
    for name, tensor in named:
        if name == own.output:
            return name, tensor
    listed = "; ".join(f"{name!r} of {shown(tuple(tensor.shape))}" for name, tensor in named)
    received = f"{len(named)}: {listed}" if own.output is None else f"--output {own.output}"
    fix = "give --output NAME" if own.output is None else f"they are {listed}"
    reasons.append(reason("one output with the answer", received, fix))
    return None


def check_output(name: str, tensor: Tensor, kind: str, labels: int | None, reasons: list[str]) -> None:
    """Adds the reasons why an output is not one row of numbers, one for each label.

    Args:
        name: Name of the output.
        tensor: The output.
        kind: Kind of answer.
        labels: Number of labels; None if unknown.
    """
    shape = tuple(tensor.shape)
    columns = ANSWERS[kind].columns
    expected = f"the output {name!r} to be of shape (batch, {labels or columns}), a column for each label"
    if len(shape) != 2:
        fix = "pool it over the sequence, as a GlobalAveragePooling1D layer does" if len(shape) == 3 else ""
        reasons.append(reason(expected, shown(shape), fix or "build a model around it with one answer for each row"))
    elif shape[1] == 1 and kind == OneClass.kind:
        fix = "give --answer yes-no and two labels, the one for no first; or --answer scores if it is a score"
        reasons.append(reason(expected, f"{shown(shape)}, one column", fix))
    elif labels is not None and shape[1] not in ((1, 2) if kind == YesNo.kind else (labels,)):
        fix = "give the labels that the model was trained on, in the order of its columns"
        reasons.append(reason(expected, f"{shown(shape)} and {labels} labels", fix))


def declared_kind(name: str, tensor: Tensor) -> str | None:
    """What the model declares about an output: "softmax", "sigmoid", LOGITS, or None."""
    operation, taken = producer(tensor)
    while taken and type(operation).__name__ in ("Activation", "Cast", "Dropout", "Identity"):
        if getattr(operation, "activation", keras.activations.linear) is not keras.activations.linear:
            break
        operation, taken = producer(taken[0])
    activation = getattr(operation, "activation", None)
    if type(operation).__name__ == "Softmax" or activation is keras.activations.softmax:
        return "softmax"
    if type(operation).__name__ == "Sigmoid" or activation is keras.activations.sigmoid:
        return "sigmoid"
    if isinstance(operation, keras.layers.Dense) and activation is keras.activations.linear:
        return LOGITS
    return LOGITS if "logit" in name else None


def _named(model: keras.Model, outputs: Any) -> list[tuple[str, Tensor]]:
    if isinstance(outputs, dict):
        return [(str(name), tensor) for name, tensor in outputs.items()]
    if isinstance(outputs, (list, tuple)):
        names = getattr(model, "output_names", None) or range(len(outputs))
        return [(str(name), tensor) for name, tensor in zip(names, outputs, strict=True)]
    names = getattr(model, "output_names", None) or ["output"]
    return [(str(names[0]), outputs)]
