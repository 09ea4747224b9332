"""Inspects a functional Keras model: which operations take a tensor, and which made it. Nested models are included."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras

Tensor = Any
"""keras.KerasTensor: Keras has no types to check against."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A tensor in a model; `outer` maps the outputs of an inner model to those of the model around it, by id."""

    model: keras.Model
    tensor: Tensor
    outer: Mapping[int, Place] = dataclasses.field(default_factory=dict)


def functional(model: Any) -> keras.Model | None:
    """The model as a graph from inputs to outputs; None if it is not one."""
    if isinstance(model, keras.Sequential):
        model = getattr(model, "_functional", None)
    return model if getattr(model, "_nodes_by_depth", None) is not None else None


def consumers(place: Place) -> Iterator[tuple[Any, list[Any], list[Place]]]:
    """Each operation that takes a tensor, with its arguments and where its outputs are."""
    for nodes in place.model._nodes_by_depth.values():
        for node in nodes:
            for position, given in enumerate(node.input_tensors):
                if given is not place.tensor:
                    continue
                if inner := functional(node.operation):
                    outer = {
                        id(tensor): Place(place.model, node.outputs[number], place.outer)
                        for number, tensor in enumerate(inner.outputs)
                    }
                    yield from consumers(Place(inner, inner.inputs[position], outer))
                else:
                    outputs = [Place(place.model, tensor, place.outer) for tensor in node.outputs]
                    yield node.operation, list(node.arguments.args), outputs
    if id(place.tensor) in place.outer:
        yield from consumers(place.outer[id(place.tensor)])


def producer(tensor: Tensor) -> tuple[Any, list[Tensor]]:
    """The operation that made a tensor, and the tensors that it took; None if unknown."""
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None, []
    if inner := functional(history.operation):
        return producer(inner.outputs[history.tensor_index])
    return history.operation, list(history.operation._inbound_nodes[history.node_index].input_tensors)
