"""Finds the answer among a model's outputs, what the model declares about it, and the layer for `embed`."""

from typing import Any

import keras

from duoserve.contract import ANSWERS, OneClass, YesNo
from export.own.calling import shown
from export.own.graph import Tensor, functional, producer
from export.own.reasons import misfit
from export.own.settings import LOGITS, OwnModel


def pick_output(model: keras.Model, outputs: Any, own: OwnModel) -> tuple[str, Tensor]:
    """Name and tensor of the output with the answer, of a tensor, or a list or dict of tensors.

    Raises:
        MisfitError: Several outputs, none of which the user names.
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
    raise misfit("one output with the answer", received, fix)


def check_output(name: str, tensor: Tensor, kind: str | None, labels: int | None) -> None:
    """Raises MisfitError if an output is not a row of numbers, one for each of `labels`; None: not known."""
    shape = tuple(tensor.shape)
    columns = "columns" if kind is None else ANSWERS[kind].columns
    expected = f"the output {name!r} to be of shape (batch, {labels or columns}), a column for each label"
    if len(shape) != 2:
        fix = "pool it over the sequence, as a GlobalAveragePooling1D layer does" if len(shape) == 3 else ""
        raise misfit(expected, shown(shape), fix or "build a model around it with one answer for each row")
    if shape[1] == 1 and kind == OneClass.kind:
        fix = "give --answer yes-no and two labels, the one for no first; or --answer scores if it is a score"
        raise misfit(expected, f"{shown(shape)}, one column", fix)
    allowed = (1, 2) if kind == YesNo.kind or (kind is None and labels == 2) else (labels,)
    if labels is not None and shape[1] not in allowed:
        fix = "give the labels that the model was trained on, in the order of its columns"
        raise misfit(expected, f"{shown(shape)} and {labels} labels", fix)


def declared_kind(name: str, tensor: Tensor) -> str | None:
    """What the model declares about an output: "softmax", "sigmoid", LOGITS, or None."""
    operation, taken = producer(tensor)
    while taken and type(operation).__name__ in ("Activation", "Cast", "Dropout", "Identity"):
        if getattr(operation, "activation", keras.activations.linear) is not keras.activations.linear:
            break
        operation, taken = producer(taken[0])
    activation = getattr(operation, "activation", None)
    for declared in ("softmax", "sigmoid"):
        if type(operation).__name__ == declared.title() or activation is getattr(keras.activations, declared):
            return declared
    if isinstance(operation, keras.layers.Dense) and activation is keras.activations.linear:
        return LOGITS
    return LOGITS if "logit" in name else None


def find_features(model: keras.Model, own: OwnModel) -> Tensor:
    """The output of the layer `own.embed`, a tensor of the model's graph: numbers for each row.

    Raises:
        MisfitError: The model is not a graph, or has no such layer that joins both inputs.
    """
    graph = functional(model)
    if graph is None or not type(model).call.__qualname__.startswith(("Functional.", "Sequential.")):
        fix = "build it of layers with keras.Model(inputs, outputs), or leave --embed out"
        raise misfit("a model that is a graph of layers, for --embed", type(model).__name__, fix)
    layer = next((each for each in graph.layers if each.name == own.embed), None)
    joined = ", ".join(repr(each.name) for each in graph.layers if _joins(graph, each))
    fix = f"use one of the layers that do: {joined or 'none'}"
    expected = "--embed to name a layer that gives a row of numbers made of both inputs"
    if layer is None or not _joins(graph, layer):
        received = "which the model lacks" if layer is None else f"of {_shape(layer)}"
        raise misfit(expected, f"{own.embed!r}, {received}", fix)
    return layer.output


def _named(model: keras.Model, outputs: Any) -> list[tuple[str, Tensor]]:
    if isinstance(outputs, dict):
        return [(str(name), tensor) for name, tensor in outputs.items()]
    names = getattr(model, "output_names", None)
    if isinstance(outputs, (list, tuple)):
        return [(str(name), tensor) for name, tensor in zip(names or range(len(outputs)), outputs, strict=True)]
    return [(str((names or ["output"])[0]), outputs)]


def _joins(graph: keras.Model, layer: Any) -> bool:
    """Whether the layer gives numbers for each row, made of both inputs."""
    output = _output(layer)
    if output is None or len(output.shape) != 2 or output.shape[1] is None:
        return False
    seen, ahead = set(), [output]
    while ahead:
        tensor = ahead.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            operation, node, _ = tensor._keras_history
            ahead += operation._inbound_nodes[node].input_tensors
    return all(id(tensor) in seen for tensor in graph.inputs)


def _shape(layer: Any) -> str:
    output = _output(layer)
    if output is None:
        return "several outputs"
    return shown(tuple(output.shape)) + (", made of one input" if len(output.shape) == 2 else "")


def _output(layer: Any) -> Tensor | None:
    """The one output of the layer; None if it has several, or is called more than once."""
    try:
        output = layer.output
    except (AttributeError, ValueError):
        return None
    return output if hasattr(output, "shape") else None
