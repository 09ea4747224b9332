"""The layer that the user names for the signature `embed`, behind the inputs of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from export.own.calling import find_calling, shown
from export.own.graph import functional
from export.own.reasons import reason, said
from export.own.settings import OwnModel

__all__ = ["find_features"]

Tensor = Any  # keras.KerasTensor: keras has no types to check against


def find_features(model: keras.Model, given: Mapping[str, Tensor], own: OwnModel, reasons: list[str]) -> Tensor | None:
    """The layer's output for these inputs, numbers for each row, or None with the reason.

    Args:
        model: Not changed.
        given: The inputs of the model, by name.
        own: Names the layer, as `embed`.
        reasons: Gets the reasons.
    """
    graph = functional(model)
    if graph is None:
        fix = "build it of layers with keras.Model(inputs, outputs), or leave --embed out"
        reasons.append(reason("a model that is a graph of layers, for --embed", type(model).__name__, fix))
        return None
    layer = next((each for each in graph.layers if each.name == own.embed), None)
    joined = ", ".join(repr(each.name) for each in graph.layers if _joins(graph, each))
    fix = f"use one of the layers that do: {joined or 'none'}"
    expected = "--embed to name a layer that gives a row of numbers made of both inputs"
    if layer is None or not _joins(graph, layer):
        received = f"{own.embed!r}, which the model lacks"
        if layer is not None:
            received = f"{own.embed!r}, of {_shape(layer)}"
        reasons.append(reason(expected, received, fix))
        return None
    part = keras.Model(graph.input, layer.output)
    calling = find_calling(part, own, reasons)
    assert calling is not None  # a graph always has its inputs
    found, call = calling
    try:
        return call(*(given[one.name] for one in found))
    except Exception as error:  # the user's layers may raise anything
        reasons.append(reason(expected, f"{own.embed!r}, which fails: {said(error)}", fix))
        return None


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
    if output is None or len(output.shape) != 2:
        return "several outputs" if output is None else shown(tuple(output.shape))
    return f"{shown(tuple(output.shape))}, made of one input"


def _output(layer: Any) -> Tensor | None:
    """The one output of the layer; None if it has several, or is called more than once."""
    try:
        output = layer.output
    except (AttributeError, ValueError):
        return None
    return output if hasattr(output, "shape") else None
