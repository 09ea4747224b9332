"""The inputs of a model, and how it is called, for graphs of layers and for Python code."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from export.own.graph import Tensor, functional
from export.own.reasons import misfit
from export.own.settings import OwnModel

Shape = tuple[int | None, ...]
Call = Callable[..., Any]
"""Takes symbolic tensors in the order of the inputs; returns the model's output."""


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """One input. `shape` and `dtype` are None if unknown; `tensor` is None for Python code."""

    name: str
    shape: Shape | None = None
    dtype: str | None = None
    tensor: Tensor = None

    def __str__(self) -> str:
        shape = "unknown shape" if self.shape is None else shown(self.shape)
        return f"{self.name!r}, {self.dtype or 'an'} array of {shape}"


def shown(shape: Shape) -> str:
    """A shape in the words of the contract."""
    names = ["batch", *["any"] * len(shape)]
    dims = [name if dim is None else str(dim) for name, dim in zip(names, shape, strict=False)]
    return f"shape ({', '.join(dims)}{',' if len(dims) == 1 else ''})"


def find_calling(model: keras.Model, own: OwnModel) -> tuple[list[Input], Call]:
    """The inputs and how to call the model with them.

    Raises:
        MisfitError: It is Python code, and nothing shows what it takes.
    """
    graph = functional(model)
    return _of_code(model, own) if graph is None else _of_graph(model, graph)


def _of_graph(model: keras.Model, graph: keras.Model) -> tuple[list[Input], Call]:
    inputs = [
        Input(tensor.name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype), tensor)
        for tensor in graph.inputs
    ]
    positions = {id(tensor): position for position, tensor in enumerate(graph.inputs)}

    def call(*given: Tensor) -> Any:
        # A list, a dict, or lists in dicts, as the model was built.
        packed = keras.tree.map_structure(lambda tensor: given[positions[id(tensor)]], graph.input)
        return model(packed, training=False)

    return inputs, call


def _of_code(model: keras.Model, own: OwnModel) -> tuple[list[Input], Call]:
    """Detects the inputs of a subclass from the shapes that it was built with, or from its arguments."""
    parameters = inspect.signature(model.call).parameters
    training = {"training": False} if "training" in parameters else {}
    built = (model.get_build_config() or {}).get("input_shape")
    if isinstance(built, dict):
        return _of_shapes(built), lambda *given: model(dict(zip(built, given, strict=True)), **training)
    if isinstance(built, (list, tuple)) and built and all(isinstance(each, (list, tuple)) for each in built):
        return _of_shapes(dict(enumerate(built))), lambda *given: model(list(given), **training)
    arguments = [
        name
        for name, one in parameters.items()
        if name not in ("training", "mask") and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if len(arguments) != 1:
        return [Input(name) for name in arguments], lambda *given: model(*given, **training)
    if own.image_input and own.text_input:
        keys = [own.image_input, own.text_input]
        return [Input(key) for key in keys], lambda *given: model(dict(zip(keys, given, strict=True)), **training)
    raise misfit(
        "to know how the model is called",
        f"Python code that takes one argument, {arguments[0]!r}, and that was never called",
        "call it once before it is returned or saved, or give --image-input and --text-input, the keys"
        " of the dict that it takes",
    )


def _of_shapes(shapes: Mapping[Any, Shape]) -> list[Input]:
    return [Input(str(name), (None, *shape[1:])) for name, shape in shapes.items()]
